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
        "Each setting is an environment variable. `neurond serve --help` lists the settings that",
        "are also options of the command. An option takes precedence over the variable.\n",
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
    """Return the page of error codes with their remedies."""
    lines = [
        "# Errors\n",
        "Every error is `application/problem+json` (RFC 9457) with `type`, `title`, `status`,",
        "`detail`, `instance`, `code` and `request_id`. The meaning of a `code` never changes.",
        "Errors in a body have `errors`, a list of `{pointer, code, detail}`. The pointer (RFC",
        "6901) identifies the value in the request body.\n",
    ]
    for code, (status, title) in sorted(STATUS.items()):
        lines.append(f"## {code}\n")
        lines.append(f"{status}. {title}. {REMEDIES[code]}\n")
    lines.append("## In the `error` of a job that failed\n")
    lines += [f"* `{code}`: {meaning}" for code, meaning in sorted(IN_JOBS.items())]
    return "\n".join(lines) + "\n"


IN_JOBS = {
    "checkpoint_corrupt": "All checkpoints are corrupt or were written by an incompatible version.",
    "dataset_corrupt": "The file of the dataset does not match its digest. Upload it again.",
    "dataset_deleted": "The dataset was deleted while the job was queued.",
    "dataset_missing": "The file of the dataset does not exist. Upload the dataset again.",
    "dataset_unreadable": "The file of the dataset cannot be read. `detail` has the system's "
    "reason.",
    "weights_unreadable": "The file of the base version cannot be read. `detail` has the system's "
    "reason.",
    "checkpoint_unreadable": "A checkpoint cannot be read. `detail` has the system's reason.",
    "diverged": "The loss, the gradient or a weight became infinite or NaN. `detail` contains the "
    "epoch. The latest checkpoint contains the last finite weights, and `best` the best ones.",
    "split_changed": "The job began with another split into training and validation rows. Create "
    "it again.",
    "incompatible": "The labels of the network were changed while the job was queued.",
    "interrupted": "The worker crashed `NEUROND_MAX_ATTEMPTS` times.",
    "network_deleted": "The network was deleted while the job was queued.",
    "not_finite": "A value of the dataset is too large for the dtype of the network.",
    "not_serializable": "The job cannot be sent to a worker.",
    "out_of_memory": "The worker exceeded `NEUROND_WORKER_MEMORY_BYTES`.",
    "training_error": "This is a bug. See the server log for the stack trace.",
    "training_refused": "The targets are not valid for the loss. `detail` contains the reason.",
    "version_deleted": "The base version of the job was deleted.",
    "weights_corrupt": "The file of the base version does not match its digest.",
    "weights_missing": "The file of the base version does not exist.",
}


REMEDIES = {
    "quota_exceeded": "`quota`, `limit` and `used` describe the quota of the tenant. Delete what "
    "is not needed, or raise the quota.",
    "range_not_satisfiable": "The file is shorter than the `Range` header requests.",
    "too_many_connections": "The server has `NEUROND_MAX_CONNECTIONS` open connections. Reuse "
    "connections, or raise the limit.",
    "bad_request": "The request is invalid. `detail` contains the reason.",
    "checkpoint_corrupt": "The file does not match its digest. Request another checkpoint.",
    "conflict": "Read the resource again. `detail` contains the reason.",
    "csrf_rejected": "A page of another site sent this request, or no API key exists and the "
    "`Host` is not localhost. See [Troubleshoot](../how-to/troubleshoot.md#403-csrf_rejected).",
    "dataset_corrupt": "The file does not match its digest. Upload the dataset again.",
    "version_in_use": "`alias` or `job` identifies what needs the version.",
    "dataset_in_use": "`job` identifies the job. Cancel it, or wait until it ends.",
    "duplicate_job": "`job` identifies the job. Omit `on_duplicate` to run both.",
    "export_differs": "The outputs of the exported file differ from those of the network. Use "
    "another format.",
    "headers_too_large": "The request line and the headers are limited to 16 KiB and 100 fields.",
    "idempotency_key_in_use": "Repeat the request later to receive the response of the first one.",
    "idempotency_key_reused": "Use a new Idempotency-Key for a different request.",
    "insufficient_scope": "Use a key with the scope that `detail` names.",
    "internal_error": "This is a bug. See the server log for this `request_id`.",
    "invalid_transition": "`current_status` is the status of the job, and `allowed_actions` lists "
    "the possible actions.",
    "malformed_body": "The body is not valid JSON, UTF-8, CSV or npz.",
    "method_not_allowed": "The header `Allow` lists the methods.",
    "name_taken": "Choose another name, or omit it to use the id as the name.",
    "network_in_use": "`job` identifies the job. Cancel it, or wait until it ends.",
    "no_default_network": "Set NEUROND_DEFAULT_NETWORK, or name the network in the path.",
    "not_a_classifier": "The last layer is neither softmax nor sigmoid. Use `predict`.",
    "not_acceptable": "`detail` lists the available formats.",
    "not_found": "The path is wrong, or the id or name does not exist for this tenant.",
    "payload_too_large": "`detail` contains the limit. The settings `NEUROND_MAX_*_BYTES` change "
    "it.",
    "precondition_failed": "Read the resource again and send its new ETag, which is in "
    "`current_etag`.",
    "queue_full": "Retry after `Retry-After` seconds.",
    "rate_limited": "Retry after `Retry-After` seconds. `RateLimit-Policy` contains the limit.",
    "request_timeout": "Send the headers within ten seconds, and the body at 64 KiB/s or faster.",
    "shutting_down": "Retry on another server, or after the restart.",
    "storage_full": "Free disk space. Reads and inference continue, and writes succeed again once "
    "there is space.",
    "storage_unavailable": "Retry after `Retry-After` seconds. `detail` contains the reason.",
    "unauthorized": "Send `Authorization: Bearer <key>`. An unknown, expired or revoked key has "
    "the same response as none.",
    "unsupported_media_type": "Send `application/json`, `text/csv` or `application/x-npz`.",
    "validation_failed": "`errors` lists each invalid value and what was expected.",
    "weights_corrupt": "The file does not match its digest. Use another version, or upload the "
    "weights again.",
}


def endpoints(document: dict[str, Any]) -> str:
    """Return the page of endpoints."""
    lines = [
        "# Endpoints\n",
        "`/docs` on a running server sends requests to each endpoint. `/openapi.json` describes",
        "every field.\n",
    ]
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                operation = operations[method]
                description = operation.get("description", "")
                success = ", ".join(code for code in operation["responses"] if code < "4")
                lines.append(f"## {method.upper()} {path}\n")
                lines.append(f"{operation['summary']}. {description} Success: {success}.\n")
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """Return the text of every generated page by file name."""
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
