/** Signs in to the Comfy account that partner nodes use, or stores its key. */

import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import {
  Button,
  ErrorBox,
  Lost,
  Note,
  TextField,
  useFollowing,
  useTask,
} from "../components/ui.tsx";
import type { Transport } from "../transport.ts";

type Account = { source: string | null; email: string | null; problem: string | null };

const LOOK = 30_000; // ms; another page may sign in
const SOURCES: Record<string, string> = {
  kept: "A key of a Comfy account is stored on the server",
  configured: "The key of a Comfy account in the server's configuration is used",
};
const NONE = "There is no Comfy account; partner nodes need one";
const ADVICE =
  "Partner nodes (API nodes) call paid services. Sign in with the email and the password of your " +
  "Comfy account. If you sign in there with Google or GitHub, make an API key at " +
  "platform.comfy.org, and store it here. The password is not stored.";

function describe({ source, email, problem }: Account): string {
  if (source !== "signed-in") return SOURCES[source ?? ""] ?? NONE;
  return `Signed in to Comfy as ${email}${problem ? `, but without a token: ${problem}` : ""}`;
}

export function AccountPanel({ transport }: { transport: Transport }) {
  const root = useRef<HTMLDivElement>(null);
  const account = useSignal<Account | null>(null);
  const email = useSignal("");
  const password = useSignal("");
  const key = useSignal("");
  const order = useTask();
  const { lost } = useFollowing(root, async (signal) => {
    const found = await transport.get<Account>("comfy-account", {}, signal);
    if (!order.busy.value) account.value = found;
    return LOOK;
  });
  const change = (body: object | string) =>
    order.run(async () => {
      if (typeof body === "string") throw new Error(body);
      account.value = await transport.post<Account>("comfy-account", body);
    });
  const signIn = () => {
    const given = { email: email.value.trim(), password: password.value };
    password.value = "";
    return change(given.email && given.password ? given : "Enter the email and the password");
  };
  const storeKey = () => {
    const given = key.value.trim();
    key.value = "";
    return change(given ? { api_key: given } : "Enter the API key");
  };
  const isStored = ["signed-in", "kept"].includes(account.value?.source ?? "");
  const busy = order.busy.value;
  return (
    <div class="cd-rows" ref={root}>
      <Note live>{account.value ? describe(account.value) : "Connecting …"}</Note>
      <form
        class="cd-rows cd-narrow"
        onSubmit={(event) => {
          event.preventDefault();
          signIn();
        }}
      >
        <TextField label="Email" type="email" bind={email} />
        <TextField label="Password" type="password" bind={password} />
        <div>
          <Button label="Sign in" icon="sign-in" primary disabled={busy} onClick={signIn} />
        </div>
      </form>
      <form
        class="cd-rows cd-narrow"
        onSubmit={(event) => {
          event.preventDefault();
          storeKey();
        }}
      >
        <TextField label="API key" type="password" placeholder="comfyui-…" bind={key} />
        <div class="cd-line">
          <Button label="Store key" icon="key" disabled={busy} onClick={storeKey} />
          {isStored && (
            <Button
              label="Sign out"
              icon="sign-out"
              hint="Delete the sign-in or the key"
              disabled={busy}
              onClick={() => change({ api_key: null })}
            />
          )}
        </div>
      </form>
      <Lost error={lost.value} base={transport.base} />
      <ErrorBox text={order.error.value} />
      <Note>{ADVICE}</Note>
    </div>
  );
}
