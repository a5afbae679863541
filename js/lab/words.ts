/** The texts of the extension, in the language of JupyterLab. */

import { type ITranslator, nullTranslator } from "@jupyterlab/translation";

/** Translates texts; English until a plugin has called `translate`. */
export let trans = nullTranslator.load("comfydeploy_jupyter");

/** Return why nothing works without the server's part of the package. */
export const NO_SERVER = () =>
  trans.__(
    "This Jupyter server does not have comfydeploy_jupyter, or has it disabled: install it there, or enable it with “jupyter server extension enable comfydeploy_jupyter”, and restart Jupyter.",
  );

/** Use the language of the page. */
export function translate(translator: ITranslator | null): void {
  if (translator) trans = translator.load("comfydeploy_jupyter");
}
