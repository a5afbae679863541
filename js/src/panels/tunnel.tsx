/** Starts and stops a tunnel from the internet; its address and who can use it. */

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { renderSVG } from "uqr";
import { Down } from "../components/down.tsx";
import {
  Button,
  Checkbox,
  type Colour,
  CopyButton,
  ErrorBox,
  Link,
  Lost,
  Note,
  Select,
  State,
  TextField,
  useFollowing,
  useTask,
} from "../components/ui.tsx";
import type { PanelProps } from "../state/traits.ts";

type Target = "comfyui" | "jupyter";

/** The reply of the routes below `tunnel/`. */
type Status = {
  running: boolean;
  state: string;
  target: Target;
  url: string | null;
  /** With the secret, if there is one. It is never a trait, since a notebook may keep these. */
  access_url: string | null;
  port: number | null;
  protection: "gate" | "jupyter" | "none";
  error: string | null;
  hint: string | null;
  details: { log?: string[]; can_download?: boolean };
};

const BUSY = 500; // ms between two requests while the state changes
const IDLE = 3000;
const LARGEST_CODE = 1000; // bytes; cameras often cannot read larger QR codes

const NAMES: Record<Target, string> = { comfyui: "ComfyUI", jupyter: "Jupyter" };
const STATES: Record<string, [string, Colour]> = {
  stopped: ["Stopped", "faint"],
  starting: ["Starting …", "warn"],
  running: ["Running", "success"],
  restarting: ["The connection broke; starting it again …", "warn"],
};
const PROTECTIONS = {
  gate: "protected by the secret in its link",
  jupyter: "protected by Jupyter's login",
  none: "NOT protected: everybody who knows the address has access",
};
const BARE =
  "Everybody who finds the address can then use ComfyUI, and through it this machine: its files, " +
  "its network and its graphics card.";
const JUPYTER = "Visitors need Jupyter's token or password, as always.";
const GATED = "Visitors need the link. It contains a secret, which their browser then remembers.";

export function TunnelPanel({
  transport,
  traits,
}: PanelProps<{ target: Target; summary: string }>) {
  const root = useRef<HTMLDivElement>(null);
  const status = useSignal<Status | null>(null);
  const protect = useSignal(true);
  const token = useSignal("");
  const hostname = useSignal("");
  const order = useTask();
  const isFirst = useRef(true);
  const target = traits.target.value;

  const { wake, lost } = useFollowing(root, async (signal) => {
    const isAny = isFirst.current; // a tunnel that is open already is shown, with any target
    const asked = isAny ? null : traits.target.value;
    let found = await transport.get<Status>("tunnel/status", { target: asked }, signal);
    if (isAny && found.state === "stopped" && found.target !== traits.target.value) {
      const { value } = traits.target;
      found = await transport.get<Status>("tunnel/status", { target: value }, signal);
    }
    isFirst.current = false;
    if (isAny && found.target !== traits.target.value) traits.set({ target: found.target });
    if (!order.busy.value && found.target === traits.target.value) status.value = found;
    return ["stopped", "running"].includes(found.state) ? IDLE : BUSY;
  });

  const start = (download: boolean) =>
    order.run(async () => {
      const secret = token.value.trim();
      token.value = "";
      const body = {
        target,
        protect: target === "comfyui" && !protect.value ? false : null,
        token: secret || null,
        hostname: hostname.value.trim() || null,
        download: download || null,
        wait: false,
      };
      status.value = await transport.post<Status>("tunnel/start", body);
      wake();
    });
  const stop = () =>
    order.run(async () => {
      await transport.post("tunnel/stop", { target });
      status.value = null;
      wake();
    });
  const choose = (value: string) => {
    order.clear();
    status.value = null;
    traits.set({ target: value as Target });
    wake();
  };

  const known = status.value;
  const isBusy = order.busy.value || !known;
  const isUp = known !== null && known.state !== "stopped";
  const hasFailed = known?.state === "stopped" && known.error;
  const [text, colour]: [string, Colour] = hasFailed
    ? ["Failed", "error"]
    : known
      ? (STATES[known.state] ?? [known.state, "faint"])
      : [lost.value ? "Unknown" : "Connecting …", "faint"];
  const isComfyUI = target === "comfyui";
  const summary = `Tunnel to ${NAMES[target]}: ${text}${known?.url ? ` at ${known.url}` : ""}`;
  useEffect(() => {
    if (known && traits.summary.value !== summary) traits.set({ summary });
  }, [known, summary, traits]);
  return (
    <div class="cd-rows" ref={root}>
      {target === "comfyui" && <Down transport={transport} root={root} />}
      <Select
        label="Make reachable"
        value={target}
        options={Object.entries(NAMES)}
        onChange={choose}
      />
      {!isUp && (
        <>
          {isComfyUI && (
            <Checkbox
              label="Only with the secret link"
              bind={protect}
              disabled={order.busy.value}
            />
          )}
          {isComfyUI && !protect.value ? (
            <ErrorBox text={BARE} />
          ) : (
            <Note>{isComfyUI ? GATED : JUPYTER}</Note>
          )}
          <details>
            <summary>With an address of your own</summary>
            <div class="cd-rows">
              <TextField
                label="Token"
                type="password"
                placeholder="of a tunnel in your Cloudflare account"
                bind={token}
                disabled={order.busy.value}
              />
              <TextField
                label="Hostname"
                placeholder="its public name; may be left out"
                bind={hostname}
                disabled={order.busy.value}
              />
            </div>
          </details>
        </>
      )}
      <div class="cd-line">
        <Button
          label="Start"
          icon="globe"
          hint="Start the tunnel"
          primary
          disabled={isBusy || isUp}
          onClick={() => start(false)}
        />
        <Button
          label="Stop"
          icon="stop"
          hint="End the tunnel"
          disabled={isBusy || !isUp}
          onClick={stop}
        />
        <State text={text} colour={colour} />
      </div>
      {known?.url && <Address url={known.url} link={known.access_url ?? ""} />}
      {known?.running && <Access status={known} />}
      {known?.error && <Failure status={known} />}
      {known?.state === "stopped" && known.details?.can_download && (
        <>
          <Note>
            cloudflared is Cloudflare's program for tunnels. The button downloads it from its{" "}
            <Link href="https://github.com/cloudflare/cloudflared/releases">release</Link> (about 40
            MB) into the data folder of the Jupyter server, checks its SHA-256 and starts the
            tunnel. By using it you agree to{" "}
            <Link href="https://www.cloudflare.com/website-terms/">Cloudflare's terms</Link>.
          </Note>
          <div>
            <Button
              label="Download cloudflared"
              icon="download"
              hint="Download cloudflared on the server, then start the tunnel"
              primary
              disabled={isBusy}
              onClick={() => start(true)}
            />
          </div>
        </>
      )}
      <Lost error={lost.value} base={transport.base} />
      <ErrorBox text={order.error.value} />
    </div>
  );
}

/** The link of a tunnel, and its QR code for the camera of a phone. */
function Address({ url, link }: { url: string; link: string }) {
  const isShown = useSignal(false);
  const hasCode = link !== "" && new TextEncoder().encode(link).length <= LARGEST_CODE;
  const code = useMemo(() => {
    if (!hasCode || !isShown.value) return "";
    // The quiet zone around a code is four modules wide; white, also in a dark theme.
    return `data:image/svg+xml,${encodeURIComponent(renderSVG(link, { border: 4, ecc: "M" }))}`;
  }, [link, hasCode, isShown.value]);
  return (
    <div class="comfydeploy-link">
      <div class="cd-line">
        <Link href={link || url} title={link}>
          {url}
        </Link>
        <CopyButton label="Copy link" text={link} />
      </div>
      {hasCode && (
        <details
          onToggle={(event) => {
            isShown.value = event.currentTarget.open;
          }}
        >
          <summary>QR code</summary>
          {code && <img alt="QR code of the link" src={code} />}
        </details>
      )}
    </div>
  );
}

function Access({ status: { protection, target, port } }: { status: Status }) {
  const text = PROTECTIONS[protection] ?? protection;
  if (protection === "none") return <ErrorBox text={`${text}.`} />;
  const more = ". Copy the link to hand it on; a new start makes another secret.";
  return (
    <Note>
      Leads to {NAMES[target]} (port {port}), {text}
      {protection === "gate" ? more : "."}
    </Note>
  );
}

function Failure({ status: { error, hint, details } }: { status: Status }) {
  // The button below is better advice than the hint of the server.
  const text = hint && !details?.can_download ? `${error} (${hint})` : error;
  const log = Array.isArray(details?.log) ? details.log.join("\n") : "";
  return (
    <ErrorBox text={text ?? ""}>
      {log && (
        <details>
          <summary>The log of cloudflared</summary>
          <pre class="cd-log">{log}</pre>
        </details>
      )}
    </ErrorBox>
  );
}
