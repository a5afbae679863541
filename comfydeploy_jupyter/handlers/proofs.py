"""Proofs: with what a run was made, and whether it can be made again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .. import request_models as fields
from ..errors import ConflictError, NotFoundError, TooLargeError
from ..proofs.environment import FILES, environment_of, file_of
from ..proofs.verify import checked
from ..request_models import Model, optional, required
from ..util import worker
from . import route
from .base import Handler
from .machines import EnvironmentReply
from .route import BINARY, JSON, MACHINE, TIME, Content, Large, OpenReplyModel, ReplyModel, Success
from .runs import ShownFile

SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class RecordedContent(ReplyModel):
    """The decoded content of a file or text."""

    kind: Literal["image", "animation", "video", "audio", "text"] = Field(examples=["image"])
    sha256: str = required(
        "Of what a decoder makes of the file, such as its pixels: metadata and compression do not"
        " matter.",
        SHA256,
    )
    about: str = required("What was decoded.", "1024 x 768 RGBA")


class RecordedOutput(OpenReplyModel):
    """A file or text that the run made; files have `type`, `subfolder`, `filename`."""

    node_id: str = Field(examples=["9"])
    content: RecordedContent | None = required("Null with the `reason`.")


class RecordedFile(OpenReplyModel):
    """A file that the graph names."""

    folder: str | None = required("`input`, `output`, `temp` or a folder of models.", "checkpoints")
    name: str = required("As in the graph.", "example.safetensors")


class RecordedPack(OpenReplyModel):
    """A node pack that the graph uses."""

    name: str = Field(examples=["ComfyUI-Example"])
    classes: list[str] = required("The node classes that the graph uses.", ["ExampleNode"])


class RunProvenance(ReplyModel):
    """The record of a run: with what it was made."""

    format: str = required("The version of this format.", "comfydeploy-jupyter/record/1")
    prompt_id: str = Field(examples=[fields.RUN_ID])
    status: fields.Status = Field(examples=["success"])
    machine: str = Field(examples=["local"])
    created_at: str = Field(examples=[TIME])
    started_at: str | None = Field(examples=[TIME])
    finished_at: str | None = Field(examples=[TIME])
    execution_time: float | None = required("Seconds.", 3.2)
    workflow_id: str | None = Field(examples=[None])
    version: int | None = Field(examples=[None])
    seeds: dict[str, int] = Field(examples=[{"3.seed": 42}])
    cached_nodes: list[str] = required("The nodes whose outputs ComfyUI had in its cache.", [])
    noted_at: str | None = required("When all of this was found out.", TIME)
    complete: bool = required("Whether nothing is still to be found out.", True)
    pending: list[str] = required("The files whose hashes are not known yet.", [])
    environment: dict[str, Any] | None = required(
        "Versions, devices and launch arguments, without secrets; null if the run was not executed"
        " or its machine was removed.",
        {"comfyui": {"version": "0.3.75"}, "python": "3.12.3", "torch": "2.9.0+cpu"},
    )
    node_packs: list[RecordedPack] = required("The packs that the graph uses.")
    unknown_classes: list[str] = required("Node classes that ComfyUI does not define.", [])
    models: list[RecordedFile] = required(
        "The models that the graph names: `size` and `sha256`, or the `reason` why there is none."
    )
    inputs: list[RecordedFile] = required("The input files that it names, in the same way.")
    outputs: list[RecordedOutput] = required("What the run made.")
    notes: list[str] = required("What limits this record.", [])
    prompt: dict[str, Any] | None = required("The graph as it was executed.", {})
    workflow: dict[str, Any] | None = required("The graph of ComfyUI's editor, if it is known.", {})
    redacted: list[str] = required("JSON pointers to what is hidden, because it is secret.", [])


class RunEnvironment(EnvironmentReply):
    """The environment of a run, as far as its record knows it."""

    dockerfile: str = required(
        "A Dockerfile that needs no other file; what is not known is a comment in it.",
        "# syntax=docker/dockerfile:1\nFROM python:3.12-slim-bookworm\n",
    )


class EnvironmentQuery(Model):
    file: Literal["dockerfile", "manager_snapshot", "docker_command_steps"] | None = optional(
        "Return only this form, as a file.", "dockerfile", default=None
    )


class VerifyRequest(Model):
    """Body of ``POST runs/{run_id}/verify``."""

    machine: fields.MachineField = None
    execute: bool | None = optional(
        "Whether the run is executed again (the default); else only the environment is compared.",
        True,
    )
    nodes: bool | None = optional(
        "Whether it is executed twice, and the pictures between the nodes are compared: the first"
        " node that does not repeat itself is named. The default is false.",
        True,
    )


DIFFERENCES = ["torch 2.13.0+cpu instead of 2.12.0+cpu"]


class VerifyReply(Success):
    """What is different here, and the run that repeats the first one."""

    differences: list[str] = required("In words.", DIFFERENCES)
    prompt_id: str | None = required("The repetition; null if none was asked for.", fields.RUN_ID)


class VerifiedOutput(OpenReplyModel):
    """An output of the run, compared with that of its repetition."""

    node_id: str = Field(examples=["9"])
    verdict: Literal["identical", "differs", "cannot"] = required(
        "`cannot`: this is not known, see the `reason`.", "differs"
    )
    reason: str = required("In words, if there is something to say.", "")
    share: float | None = required("Of a picture: the share of pixels that differ.", 0.02)
    largest: float | None = required(
        "Of a picture: the largest difference of a channel, as a share of its range.", 0.004
    )
    mean: float | None = required("The same, as the mean of all pixels.", 0.0001)
    before: ShownFile | None = required(
        "The picture of the run, if it differs and was made by this server.", None
    )
    after: ShownFile | None = required("The same of the repetition.", None)


class DifferentNode(ReplyModel):
    """The first node that does not repeat itself."""

    node_id: str = Field(examples=["3"])
    name: str = Field(examples=["KSampler (id 3)"])


class Verification(ReplyModel):
    """Whether a run was made again."""

    state: Literal["running", "done"] = Field(examples=["done"])
    prompt_id: str = required("The repetition.", fields.RUN_ID)
    second_id: str | None = required("The second one, if nodes are compared.", None)
    verdict: Literal["identical", "differs", "cannot"] | None = required(
        "Of all outputs; null while it runs.", "identical"
    )
    differences: list[str] = required("What it was made with otherwise.", DIFFERENCES)
    outputs: list[VerifiedOutput]
    first_different: DifferentNode | None = required("Only if nodes were compared.")
    notes: list[str] = required("What limits this result.", [])


class VerifyBatchRequest(Model):
    """Body of ``POST batch/{batch_id}/verify``."""

    machine: fields.MachineField = None
    points: (
        Annotated[int, Field(strict=True, ge=1)]
        | Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=1)]
        | None
    ) = optional(
        "Which points, or how many of them, evenly spread over those that have succeeded. By"
        " default all.",
        [0, 3],
    )
    nodes: bool | None = optional(
        "As for a run: the first node that does not repeat itself is named. The default is false.",
        True,
    )


class BatchVerificationQuery(Model):
    limit: fields.LimitField = 100
    offset: fields.OffsetField = 0
    verdict: Literal["identical", "differs", "cannot"] | None = optional(
        "Only points with this verdict.", "differs"
    )


class VerifiedPoint(ReplyModel):
    """A point of a batch, compared with its repetition."""

    point: int = required("Its position in the batch.", 0)
    prompt_id: str | None = required("Its run.", fields.RUN_ID)
    repetition: str | None = required("The run that repeats it.", fields.RUN_ID)
    verdict: Literal["identical", "differs", "cannot"] | None = required(
        "Null until it was compared; `cannot`: this is not known, see the `reason`.", "identical"
    )
    reason: str = required("In words, if there is something to say.", "")


class VerdictCounts(ReplyModel):
    identical: int = Field(examples=[1])
    differs: int = Field(examples=[0])
    cannot: int = Field(examples=[0])


class BatchVerification(ReplyModel):
    """Whether the points of a batch were made again."""

    state: Literal["running", "done", "cancelled"] = Field(examples=["done"])
    why: str = required("What it waits for, if it does.", "")
    verdict: Literal["identical", "differs", "cannot"] | None = required(
        "Of all points; null until the state is `done`.", "identical"
    )
    total: int = required("How many points were asked for.", 1)
    counts: VerdictCounts
    differences: list[str] = required(
        "What points were made with otherwise, each said once.", DIFFERENCES
    )
    machine: str = required("The machine or pool that repeats them.", "local")
    nodes: bool = Field(examples=[False])
    begun_at: str = Field(examples=[TIME])
    finished_at: str | None = Field(examples=[TIME])
    points: list[VerifiedPoint] = required("Some of them, see `limit`.")


class ForeignRecord(Model):
    record: dict[str, Any] = required("The record in a receipt.", {}, repr=False)


class VerifyReceipt(VerifyRequest, ForeignRecord):
    """Body of ``POST receipts/verify``."""


class ReceiptQuery(Model):
    inputs: bool = optional(
        "Whether its input files are in it, too; models never are.", True, default=False
    )
    sign: bool = optional(
        "Whether it is signed with the key of this server, which is made at the first use.",
        True,
        default=False,
    )


class DifferenceQuery(Model):
    output: Annotated[int, Field(ge=0)] = optional(
        "The place of the output in the result.", 0, default=0
    )


class ProofsHandler(Handler):
    """The records of runs."""

    tag = "Proofs"

    @route.get("runs/{run_id}/record", "getRecord")
    @route.replies(RunProvenance, "The record.")
    @route.errors(NotFoundError, ConflictError)
    async def get_record(self, run_id: str) -> Large:
        """With what a run was made: versions, models and files by their hashes, outputs by content.

        It is found out after the end of the run. Until it is `complete`, files are `pending`.
        Secrets in the graphs are hidden, such as API keys and the tokens of addresses.
        """
        return await self.services.provenance.shown(run_id)

    @route.get("runs/{run_id}/environment", "getEnvironment")
    @route.replies(
        (Content(JSON, RunEnvironment), Content("text/plain", {"type": "string"}, "FROM python")),
        "The environment, or one form of it.",
    )
    @route.errors(NotFoundError, ConflictError)
    async def get_environment(self, run_id: str, query: EnvironmentQuery) -> None:
        """What is needed to execute a run elsewhere: a snapshot, steps and a Dockerfile.

        Of ComfyUI, the node packs and the models only those that its graph uses, and of the Python
        packages those that these need. What the record does not know is never guessed.
        """
        record = await self.services.provenance.record(run_id)
        found = await worker.run(environment_of, record)
        if query.file is None:
            await self.reply_large({"success": True, **found})
            return
        name, kind = FILES[query.file]
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.finish(file_of(found, query.file), set_content_type=kind)

    @route.post("runs/{run_id}/verify", "verifyRun")
    @route.replies(VerifyReply, "The comparison, and the run that was queued.")
    @route.errors(*MACHINE, ConflictError)
    async def verify_run(self, run_id: str, body: VerifyRequest) -> Any:
        """Execute a run once more, with empty caches, to see whether the same is made.

        Caches are emptied by `free`, which ComfyUI does only while it executes nothing: if the
        machine works, the error is `conflict`, and nothing is done.
        """
        return await self.services.verifier.begin(
            run_id,
            machine_id=body.machine,
            execute=body.execute is not False,
            nodes=bool(body.nodes),
        )

    @route.get("runs/{run_id}/verify", "getVerification")
    @route.replies(Verification, "The result of the newest repetition.")
    @route.errors(NotFoundError, ConflictError)
    async def get_verification(self, run_id: str) -> Large:
        """Whether a run was made again: output by output."""
        return await self.services.verifier.result(run_id)

    @route.get("runs/{run_id}/verify/difference", "getDifference")
    @route.replies(Content("image/webp", BINARY, None), "The picture.")
    @route.errors(NotFoundError, ConflictError)
    async def get_difference(self, run_id: str, query: DifferenceQuery) -> None:
        """A picture of where an output of the repetition differs; white is the largest difference.

        Only of pictures of the same size.
        """
        content = await self.services.verifier.difference(run_id, query.output)
        await self.reply_bytes(content, "image/webp")

    @route.post("batch/{batch_id}/verify", "verifyBatch")
    @route.replies(BatchVerification, "It has begun.")
    @route.errors(*MACHINE, ConflictError)
    async def verify_batch(self, batch_id: str, body: VerifyBatchRequest) -> Large:
        """Execute the points of a batch that has ended once more, to see whether the same is made.

        One after the other, each on a machine of its pool that executes nothing: it waits until
        there is one, and goes on after a restart.
        """
        return await self.services.batch_verifier.begin(
            batch_id, machine=body.machine, points=body.points, nodes=bool(body.nodes)
        )

    @route.get("batch/{batch_id}/verify", "getBatchVerification")
    @route.replies(BatchVerification, "What is known.")
    @route.errors(NotFoundError)
    async def get_batch_verification(self, batch_id: str, query: BatchVerificationQuery) -> Large:
        """Whether the points of a batch were made again: the counts, and a list of points."""
        return await self.services.batch_verifier.result(
            batch_id, verdict=query.verdict, limit=query.limit, offset=query.offset
        )

    @route.post("batch/{batch_id}/verify/cancel", "cancelBatchVerification")
    @route.replies(BatchVerification, "It has ended.")
    @route.errors(NotFoundError, ConflictError)
    async def cancel_batch_verification(self, batch_id: str) -> Large:
        """Verify no further point of a batch; what was compared is kept."""
        return await self.services.batch_verifier.cancel(batch_id)

    @route.get("runs/{run_id}/receipt", "getReceipt")
    @route.replies(Content("application/zip", BINARY, None), "The receipt.")
    @route.errors(NotFoundError, ConflictError, TooLargeError)
    async def get_receipt(self, run_id: str, query: ReceiptQuery) -> None:
        """A file to hand over: the record of a run with what it made, as RO-Crate in a ZIP.

        Paths and secrets are hidden in it, and it says where.
        """
        content = await self.services.receipts.make(run_id, inputs=query.inputs, sign=query.sign)
        self.set_header("Content-Disposition", 'attachment; filename="receipt.zip"')
        await self.reply_bytes(content, "application/zip")

    @route.post("receipts/verify", "verifyReceipt")
    @route.replies(VerifyReply, "The comparison, and the run that was queued.")
    @route.errors(*MACHINE, ConflictError)
    async def verify_receipt(self, body: VerifyReceipt) -> Any:
        """Execute a run of another computer here, to see whether the same is made."""
        record, run_id = checked(body.record)
        return await self.services.verifier.begin(
            run_id,
            record=record,
            machine_id=body.machine,
            execute=body.execute is not False,
            nodes=bool(body.nodes),
        )

    @route.post("receipts/result", "getReceiptResult")
    @route.replies(Verification, "The result of its newest repetition here.")
    @route.errors(NotFoundError, ConflictError)
    async def get_receipt_result(self, body: ForeignRecord) -> Large:
        """Whether a run of another computer was made again here: output by output."""
        record, run_id = checked(body.record)
        return await self.services.verifier.result(run_id, record)
