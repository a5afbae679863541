/** Uploads of the page and transfers of the server. */

import { type Context, type Model, Subscriptions } from "../model.ts";
import { TransferList } from "../transfers/transfer_list.ts";
import { Uploads, type UploadTraits } from "../transfers/uploads.ts";

export default () => {
  let uploads: Uploads;

  function initialize({ model }: { model: Model<UploadTraits> }) {
    uploads = new Uploads(model);
    return () => uploads.end();
  }

  function render({ model, el }: Context<UploadTraits>) {
    const events = new Subscriptions(model);
    const list = new TransferList(el, {
      add: (chosen) => uploads.add(chosen),
      cancel: (id) => uploads.cancel(id),
      retry: (id) => uploads.retry(id),
      forget: (ids) => uploads.forgetEverywhere(ids),
    });
    const stopShowing = uploads.showIn(list);
    const showTransfers = () => list.showTransfers(model.get("transfers"));
    showTransfers();
    events.on("change:transfers", showTransfers);
    return () => {
      events.end();
      stopShowing();
    };
  }

  return { initialize, render };
};
