import assert from "node:assert/strict";
import test from "node:test";
import { toJson } from "../src/exact.ts";
import { drawSeed, FormState, readNumber } from "../src/state/form.ts";
import { RunQueue } from "../src/state/runs.ts";
import { RouteError, type ServerEvent, Straight, Transport } from "../src/transport.ts";
import "./page.ts";

const tick = () => new Promise((resolve) => setTimeout(resolve, 5));

type Answer = (method: string, path: string, options: { body?: never; query?: never }) => unknown;

/** A server whose routes a test answers. */
class Routes extends Transport {
  readonly base = null;
  readonly asked: [path: string, body: Record<string, unknown>][] = [];
  told: ServerEvent[][] = [];

  constructor(private readonly answer: Answer) {
    super();
  }

  override async request<Reply>(method: string, path: string, options = {}): Promise<Reply> {
    const { body, query } = options as { body?: object; query?: object };
    this.asked.push([path, JSON.parse(toJson(body ?? query ?? {}))]);
    const reply = this.answer(method, path, options);
    if (reply instanceof Error) throw reply;
    return reply as Reply;
  }

  override async *events(): AsyncGenerator<ServerEvent> {
    yield* this.told.shift() ?? [];
  }

  protected raw(): never {
    throw new Error("not used");
  }

  script(): never {
    throw new Error("not used");
  }

  protected texts(): never {
    throw new Error("not used");
  }

  send(): never {
    throw new Error("not used");
  }
}

const row = (key: string, more: object = {}) => ({
  key,
  keys: [key],
  names: [key],
  node: key.split(".")[0],
  input: key.split(".")[1],
  label: key,
  kind: "int",
  original: "1",
  choices: null,
  dynamic: false,
  may_be_empty: false,
  least: null,
  most: null,
  hint: "",
  ...more,
});

function formReply(rows: object[], values: object, more: object = {}) {
  return {
    title: "",
    rows,
    values,
    choices: [],
    unlocked: [],
    outputs: [],
    structure: "",
    problems: {},
    others: {},
    unknown: {},
    given: {},
    untold: [],
    price: "",
    notes: [],
    defined: true,
    ...more,
  };
}

test("large seeds keep all their digits in JSON", () => {
  const seed = readNumber(row("1.seed") as never, "18446744073709551615");
  assert.equal(toJson({ a: seed, b: [1] }), '{"a":18446744073709551615,"b":[1]}');
  assert.equal(readNumber(row("1.n") as never, "+7"), 7);
});

test("numbers are refused with the reason", () => {
  const bounded = row("1.n", { least: "0", most: "18446744073709551615" }) as never;
  assert.equal(readNumber(bounded, "1.5"), "must be a whole number");
  assert.equal(readNumber(bounded, ""), "must be a whole number");
  assert.equal(readNumber(bounded, "-1"), "must be at least 0");
  assert.equal(readNumber(bounded, "18446744073709551616"), "must be at most 18446744073709551615");
  const share = row("1.x", { kind: "float", least: "0", most: "1" }) as never;
  assert.equal(readNumber(share, "1e-3"), 0.001);
  assert.equal(readNumber(share, "nan"), "must be a number");
  assert.equal(readNumber(share, "1.01"), "must be at most 1");
});

test("drawn seeds are within the bounds of their field", () => {
  for (let turn = 0; turn < 200; turn += 1) {
    assert.ok(
      ["3", "4", "5"].includes(drawSeed(row("1.seed", { least: "3", most: "5" }) as never)),
    );
    const large = drawSeed(row("1.seed", { least: "-9", most: "99999999999999999999" }) as never);
    assert.ok(BigInt(large) >= 0n && BigInt(large) < 2n ** 64n);
  }
  assert.equal(drawSeed(row("1.seed", { least: "7", most: "7" }) as never), "7");
});

test("a form sends every value, and a wrong one stops it", async () => {
  const rows = [
    row("1.width", { original: "512" }),
    row("1.on", { kind: "bool", original: true }),
    row("2.seed", { kind: "seed", original: "18446744073709551615" }),
    row("outside", { node: "3", input: "value", original: "9" }),
  ];
  const values = { "1.width": "512", "1.on": true, "2.seed": "18446744073709551615", outside: "9" };
  const form = new FormState(new Routes(() => formReply(rows, values, { unlocked: ["2.seed"] })));
  await form.open({ workflow_id: "w" });
  assert.deepEqual(form.locked.value, []);
  assert.equal(
    toJson(form.inputs()),
    '{"1.width":512,"1.on":true,"2.seed":18446744073709551615}',
    "an external input that was not changed may mean none",
  );
  form.change("outside", "10");
  form.change("1.width", "x");
  assert.equal(form.inputs(), null);
  assert.deepEqual(form.problems.value, { "1.width": "must be a whole number" });
  form.change("1.width", "512");
  assert.deepEqual(form.changed.value, { outside: "10" }, "as in the workflow");
  assert.equal(form.inputs()?.outside, 10);
  const drawn = form.drawAll();
  assert.deepEqual(Object.keys(drawn), ["2.seed"]);
  form.showDrawn(drawn);
  assert.equal(form.values.value["2.seed"], String(drawn["2.seed"]));
});

test("an option is asked for with the values, and an earlier answer is dropped", async () => {
  const mode = row("1.mode", { kind: "combo", choices: 0, dynamic: true, original: "a" });
  const answers: ((reply: object) => void)[] = [];
  const routes = new Routes(() => new Promise((resolve) => answers.push(resolve)));
  const form = new FormState(routes);
  const opened = form.open({ workflow_id: "w" });
  const choices = [["a", "b", "c"]];
  answers[0]?.(formReply([mode, row("1.mode.x")], { "1.mode": "a", "1.mode.x": "1" }, { choices }));
  await opened;
  form.change("1.mode.x", "5");
  form.change("1.mode", "b");
  form.change("1.mode", "c");
  assert.deepEqual(routes.asked.at(-1)?.[1].inputs, { "1.mode": "c" });
  const given = { given: { "1.mode": "c" }, choices };
  answers[2]?.(formReply([mode], { "1.mode": "c" }, given));
  await tick();
  answers[1]?.(formReply([mode, row("1.mode.y")], { "1.mode": "b" }, { choices }));
  await tick();
  assert.deepEqual(form.values.value, { "1.mode": "c" });
});

test("rows are added, moved and removed with what was typed in them", async () => {
  const group = row("5.rows", {
    kind: "group",
    rows: [{ name: "a" }, { name: "b" }],
  });
  const fields = [0, 1].map((place) => {
    const where = { group: "5.rows", place, index: place, title: `Row #${place + 1}` };
    return row(`5.rows.${place}.name`, { kind: "text", row: where });
  });
  const values = { "5.rows.0.name": "a", "5.rows.1.name": "b" };
  const routes = new Routes(() => formReply([...fields, group], values));
  const form = new FormState(routes);
  await form.open({ workflow_id: "w" });
  const sent = () => Reflect.get(routes.asked.at(-1)?.[1].inputs ?? {}, "5.rows");
  form.change("5.rows.1.name", "typed");
  form.arrange("5.rows", () => [0, 1, null]);
  assert.deepEqual(sent(), [{ name: "a" }, { name: "typed" }, {}]);
  await tick();
  form.arrange("5.rows", () => [1, 0]);
  assert.deepEqual(sent(), [{ name: "b" }, { name: "a" }]);
  await tick();
  form.arrange("5.rows", () => [1]);
  assert.deepEqual(sent(), [{ name: "b" }]);
});

test("rows are moved again before they are shown, and take along what is typed meanwhile", async () => {
  const rows = ["a", "b", "c"].map((name) => ({ name }));
  const group = row("5.rows", { kind: "group", rows });
  const fields = rows.map((_, place) => {
    const where = { group: "5.rows", place, index: place, title: "" };
    return row(`5.rows.${place}.name`, { kind: "text", row: where });
  });
  const shown = (...names: string[]) =>
    formReply(
      [...fields, group],
      Object.fromEntries(names.map((name, place) => [`5.rows.${place}.name`, name])),
    );
  const answers: ((reply: object) => void)[] = [];
  const routes = new Routes(() => new Promise((resolve) => answers.push(resolve)));
  const form = new FormState(routes);
  const opened = form.open({ workflow_id: "w" });
  answers[0]?.(shown("a", "b", "c"));
  await opened;
  const sent = () => Reflect.get(routes.asked.at(-1)?.[1].inputs ?? {}, "5.rows");
  form.arrange("5.rows", ([a = 0, ...others]) => [...others, a]);
  form.arrange("5.rows", (order) => order.filter((place) => place !== 1));
  assert.deepEqual(sent(), [{ name: "c" }, { name: "a" }]);
  form.arrange("5.rows", (order) => order);
  form.change("5.rows.0.name", "typed");
  form.change("5.rows.1.name", "of the removed one");
  assert.equal(answers.length, 3, "what changes nothing asks for nothing");
  answers[2]?.(shown("c", "a"));
  await tick();
  assert.deepEqual(form.values.value, { "5.rows.0.name": "c", "5.rows.1.name": "typed" });
});

const event = (name: string, data: object): ServerEvent => ({
  event: "event_update",
  data: { event: name, data },
});

function queueOn(routes: Routes) {
  const told: string[] = [];
  const runs = new RunQueue(routes, {
    accepted: (id) => told.push(`accepted ${id.length}`),
    refused: (error) => told.push(`refused ${(error as Error).message}`),
    ended: ({ status }) => told.push(`ended ${status}`),
  });
  return { runs, told };
}

test("runs are followed one after another, with their progress", async (t) => {
  const seen: string[] = [];
  const routes = new Routes((_, path, { query }) =>
    path === "run"
      ? { node_errors: {} }
      : { ...(query as object | undefined), status: "queued", queue_position: 3 },
  );
  const { runs, told } = queueOn(routes);
  t.after(() => runs.end());
  const ends = { prompt_id: "x", status: "success" };
  routes.told = [
    [
      event("execution_start", {}),
      event("live_status", {
        live_status: "Executing A, iteration 3 of 8",
        progress: 0.5,
        time_left: 2,
      }),
      event("executing", { node: "1.0.0.iteration_2", display_node: "1" }),
      event("progress", { value: 3, max: 20 }),
      event("result", ends),
    ],
    [event("result", { ...ends, status: "failed" })],
  ];
  const stop = runs.progress.subscribe((progress) => {
    if (progress)
      seen.push(`${progress.status} ${progress.text} ${progress.step}/${progress.steps}`);
  });
  await runs.submit({ workflow_id: "w" }, [{}, {}], null);
  for (let turn = 0; turn < 20 && told.length < 4; turn += 1) await tick();
  stop();
  assert.deepEqual(told, ["accepted 36", "accepted 36", "ended success", "ended failed"]);
  assert.equal(seen[0], "queued Waiting: 2 runs before this one 0/0");
  assert.ok(seen.includes("running Executing A, iteration 3 of 8 3/20"));
  assert.equal(runs.isBusy.value, false);
  const [first, second] = routes.asked.filter(([path]) => path === "run");
  assert.notEqual(first?.[1].prompt_id, second?.[1].prompt_id);
});

test("a run that needs an output of another one says so until it is queued", async (t) => {
  const waits = "Waiting for the run r, whose output it needs";
  let known: object = { status: "not-started", live_status: waits, waiting_for: ["r"] };
  const routes = new Routes((_, path, { query }) => {
    const { structure, status } = (query ?? {}) as Record<string, unknown>;
    if (path === "check-status") return { prompt_id: "x", ...known };
    return structure && status === "not-started" ? [{ prompt_id: "x", ...known }] : [];
  });
  const { runs } = queueOn(routes);
  t.after(() => runs.end());
  assert.deepEqual(await runs.find("s", () => true), ["x"]);
  await tick();
  assert.deepEqual(runs.progress.value?.text, waits);
  known = { status: "queued", queue_position: 1 };
  await runs.ask(new AbortController().signal);
  assert.deepEqual(
    [runs.progress.value?.status, runs.progress.value?.text],
    ["queued", "Next in the queue"],
  );
});

test("a run whose reply is lost is sent again and made once, and a refused one is told", async (t) => {
  const replies: unknown[] = [
    new RouteError(0, "The browser is offline", "unreachable"),
    new RouteError(502, "Bad gateway"),
    new RouteError(401, "Sign in", "signed_out"),
    new RouteError(409, "it exists already", "conflict", { field: "prompt_id" }),
    new RouteError(400, "width: too small", "invalid_input"),
  ];
  const routes = new Routes((_, path) =>
    path === "run" ? replies.shift() : { status: "success" },
  );
  const { runs, told } = queueOn(routes);
  t.after(() => runs.end());
  const lost: string[] = [];
  t.after(runs.lost.subscribe((why) => lost.push(why)));
  const online = setInterval(() => dispatchEvent(new Event("online")), 1); // no pause is waited for
  t.after(() => clearInterval(online));
  await runs.submit({ workflow_id: "w" }, [{}], null);
  await tick();
  assert.deepEqual(told, ["accepted 36", "ended success"]);
  assert.deepEqual(lost, ["", "The browser is offline", "Bad gateway", "Sign in", ""]);
  const sent = routes.asked.filter(([path]) => path === "run").map(([, body]) => body.prompt_id);
  assert.deepEqual([sent.length, new Set(sent).size], [4, 1]);
  await runs.submit({ workflow_id: "w" }, [{}, {}], null);
  assert.deepEqual(told.slice(2), ["refused width: too small"], "the second one is not sent");
  assert.equal(runs.error.value, "width: too small");
  assert.equal(runs.submitting.value, 0);
});

test("what is given up while the server is away is cancelled once it is back", async (t) => {
  let isAway = true;
  const away = () => new RouteError(0, "away", "unreachable");
  const routes = new Routes(() => (isAway ? away() : new RouteError(404, "no run", "not_found")));
  const { runs, told } = queueOn(routes);
  t.after(() => runs.end());
  const submitted = runs.submit({ workflow_id: "w" }, [{}, {}], null);
  await tick();
  await runs.cancel();
  await tick();
  assert.equal(runs.lost.value, "away");
  isAway = false;
  dispatchEvent(new Event("online"));
  await submitted;
  const [first, ...others] = routes.asked;
  const prompt_id = first?.[1].prompt_id;
  assert.deepEqual([...new Set(others.map(([path]) => path))], ["interrupt"], "not sent again");
  assert.deepEqual(others.at(-1), ["interrupt", { prompt_id }]);
  assert.deepEqual(
    [runs.isBusy.value, runs.isCancelling.value, runs.error.value, told],
    [...[false, false, ""], []],
  );
});

test("a broken stream is joined again until the run has ended", async (t) => {
  let looks = 0;
  const routes = new Routes(() => {
    looks += 1;
    if (looks === 2) return new RouteError(0, "away");
    // the execution has ended; its end is being stored
    const finished_at = "2026-01-01T00:00:00Z";
    return { prompt_id: "r", status: looks > 3 ? "success" : "running", finished_at };
  });
  const { runs, told } = queueOn(routes);
  t.after(() => runs.end());
  runs.follow("r");
  for (let turn = 0; turn < 400 && !told.length; turn += 1) await tick();
  assert.deepEqual(told, ["ended success"]);
});

test("a refused run marks the fields that ComfyUI names", async (t) => {
  const rows = [row("1.ckpt_name", { kind: "text" }), row("2.image", { kind: "text" })];
  const facts = { sentence: "is not here", extra_info: { input_name: "ckpt_name" } };
  const refusal = {
    code: "prompt_invalid",
    message: "no",
    node_errors: { 1: { errors: [facts] } },
  };
  t.mock.method(globalThis, "fetch", async (url: string) =>
    url.includes("workflow/form")
      ? Response.json(formReply(rows, { "1.ckpt_name": "a", "2.image": "b" }))
      : Response.json(refusal, { status: 400 }),
  );
  const transport = new Straight("/");
  const form = new FormState(transport);
  await form.open({ workflow_id: "w" });
  const error = await transport.post("run", {}).catch((problem) => problem);
  assert.equal(form.mark(error), true);
  assert.deepEqual(form.problems.value, { "1.ckpt_name": "is not here" });
});

test("a batch whose reply was lost is not made twice", async (t) => {
  const replies: unknown[] = [
    new RouteError(0, "lost", "unreachable"),
    new RouteError(409, "it exists already", "conflict", { field: "batch_id" }),
    new RouteError(409, "the machine is being removed", "conflict"),
  ];
  const routes = new Routes(() => replies.shift());
  const { runs, told } = queueOn(routes);
  t.after(() => runs.end());
  const body = { batch_id: "mine", points: [] };
  assert.equal(await runs.create(body), true);
  assert.deepEqual(routes.asked, [
    ["batch", body],
    ["batch", body],
  ]);
  assert.equal(await runs.create(body), false);
  assert.deepEqual(told, ["refused the machine is being removed"]);
  assert.equal(runs.error.value, "the machine is being removed");
});
