"""Generates the reference pages that are derived from the code: ``make reference``."""

from pathlib import Path
from typing import Any

from service.api.errors import STATUS
from service.bootstrap import build
from service.settings import Settings

REFERENCE = Path(__file__).parent / "reference"
METHODS = ("get", "post", "put", "patch", "delete")


def settings() -> str:
    """Return the settings page."""
    lines = [
        "# Settings\n",
        "Each setting is an environment variable. `neurond serve --help` lists those that are",
        "options of the command too; an option wins.\n",
    ]
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        if field.default_factory is not None:
            default = "cores - 1, at least 1"
        if isinstance(default, frozenset):
            default = ", ".join(sorted(default))
        alias = field.validation_alias
        variable = alias if isinstance(alias, str) else f"NEUROND_{name.upper()}"
        lines.append(f"## {variable}\n")
        lines.append(f"{field.description} Default: `{default}`.\n")
    return "\n".join(lines)


def errors() -> str:
    """Return the page of error codes, with what was written by hand about each."""
    lines = [
        "# Errors\n",
        "Every error is `application/problem+json` (RFC 9457) with `type`, `title`, `status`,",
        "`detail`, `instance`, `code` and `request_id`. `code` never changes its meaning. Errors",
        "about a body carry `errors`, a list of `{pointer, code, detail}`; the pointer (RFC 6901)",
        "leads to the place in the body that was sent.\n",
    ]
    for code, (status, title) in sorted(STATUS.items()):
        lines.append(f"## {code}\n")
        lines.append(f"{status}. {title}. {REMEDIES[code]}\n")
    lines.append("## In the `error` of a job that failed\n")
    lines += [f"* `{code}`: {meaning}" for code, meaning in sorted(IN_JOBS.items())]
    return "\n".join(lines) + "\n"


IN_JOBS = {
    "checkpoint_corrupt": "No checkpoint is whole any more, or they are of another version.",
    "dataset_corrupt": "The dataset's bytes on disk have changed. Upload it again.",
    "dataset_deleted": "It was deleted while the job waited.",
    "dataset_missing": "The dataset's file is gone.",
    "diverged": "The loss, the gradient or a weight left the finite numbers. `detail` names the "
    "epoch; the latest checkpoint has the last finite weights, and those that were best.",
    "interrupted": "Its worker died as often as `NEUROND_MAX_ATTEMPTS` allows.",
    "network_deleted": "It was deleted while the job waited.",
    "incompatible": "The network's labels were changed while the job waited.",
    "not_finite": "A row is too large for the network's dtype.",
    "not_serializable": "What the job needs cannot be handed to a worker.",
    "out_of_memory": "A worker has at most `NEUROND_WORKER_MEMORY_BYTES`.",
    "training_error": "A fault of ours; the server's log tells more.",
    "training_refused": "The targets are none that the loss can have; `detail` says why.",
    "version_deleted": "The version it would go on from is gone.",
    "weights_corrupt": "The base version's bytes on disk have changed.",
    "weights_missing": "The base version's file is gone.",
}


REMEDIES = {
    "bad_request": "The request itself is wrong, whatever it asks for; `detail` says how.",
    "checkpoint_corrupt": "Its bytes on disk have changed. Take another checkpoint.",
    "conflict": "Look at the resource again; `detail` says what stands in the way.",
    "csrf_rejected": "A browser says that the page of another site sent this. Call from your own.",
    "dataset_corrupt": "Its bytes on disk have changed. Upload the dataset again.",
    "dataset_in_use": "`job` names the job; cancel it or wait.",
    "duplicate_job": "`job` names it. Without `on_duplicate` both would run.",
    "export_differs": "The written file answers otherwise than the network; use another format.",
    "idempotency_key_in_use": "Wait a moment and repeat it: you will get the first answer.",
    "idempotency_key_reused": "Use a new Idempotency-Key for a new request.",
    "invalid_transition": "`current_status` and `allowed_actions` say what the job is and can do.",
    "insufficient_scope": "Use a key with the scope that `detail` names.",
    "internal_error": "A fault of the server; its log tells more under `request_id`.",
    "malformed_body": "Not JSON, not UTF-8, or not the CSV or npz that it says it is.",
    "method_not_allowed": "The header `Allow` names the methods.",
    "name_taken": "Choose another name, or leave it out: the id is then the name.",
    "network_in_use": "`job` names the job; cancel it or wait.",
    "no_default_network": "Set NEUROND_DEFAULT_NETWORK, or name the network in the path.",
    "not_a_classifier": "Its last layer is neither softmax nor sigmoid: use `predict`.",
    "not_acceptable": "`detail` lists the formats that are offered.",
    "not_found": "Nothing of that id or name is here, or the path is wrong.",
    "payload_too_large": "`detail` tells the limit; the settings change it.",
    "precondition_failed": "Read it again, and send the new ETag. `current_etag` tells it.",
    "request_timeout": "Send the head within ten seconds, and the body at 64 KiB/s or faster.",
    "headers_too_large": "A head has at most 16 KiB and 100 fields.",
    "rate_limited": "Come back after `Retry-After` seconds; `RateLimit-Policy` tells the limit.",
    "queue_full": "Come back after `Retry-After` seconds.",
    "shutting_down": "Another instance, or this one soon again, will answer.",
    "storage_full": "Make room. Reading and classifying go on meanwhile, and writing will again.",
    "storage_unavailable": "Come back after `Retry-After` seconds; `detail` says what is wrong.",
    "unauthorized": "Send `Authorization: Bearer <key>`. An unknown, expired or revoked key is "
    "told the same as none.",
    "unsupported_media_type": "Send `application/json`, `text/csv` or `application/x-npz`.",
    "validation_failed": "`errors` names each wrong place and what is due there.",
    "weights_corrupt": "Their bytes on disk have changed. Use another version, or upload again.",
}


def endpoints(document: dict[str, Any]) -> str:
    """Return the page of endpoints."""
    lines = [
        "# Endpoints\n",
        "The page at `/docs` lets each be tried; `/openapi.json` has every field.\n",
    ]
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                operation = operations[method]
                told = operation.get("description", "")
                good = ", ".join(code for code in operation["responses"] if code < "4")
                lines.append(f"## {method.upper()} {path}\n")
                lines.append(f"{operation['summary']}. {told} Answers {good}.\n")
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """Return every generated page by its name."""
    return {
        "settings.md": settings(),
        "errors.md": errors(),
        "endpoints.md": endpoints(build(Settings()).openapi()),
    }


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text)


if __name__ == "__main__":
    main()
