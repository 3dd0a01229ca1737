"""`visavis serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.cli.common import Device, device_name
from visavis.cli.index_place import find_index
from visavis.errors import MissingExtraError

if TYPE_CHECKING:
    from visavis.server.settings import ServeConfig


def serve(
    index: Annotated[
        str | None,
        typer.Argument(
            metavar="INDEX",
            help="Its folder, s3://BUCKET/FOLDER, or its pictures; default: the last built.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="0.0.0.0: every address of this machine."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", metavar="N", min=0, max=65535, help="0: any free one.")
    ] = 8000,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="Default: the index's own."),
    ] = None,
    device: Device = "cpu",
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="FILE", help="Lines `read SHA256` or `admin SHA256`."),
    ] = None,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Let other machines in without a key.")
    ] = False,
    uploads: Annotated[
        Path | None,
        typer.Option("--uploads", metavar="FOLDER", help="Keep pictures that are sent here."),
    ] = None,
) -> None:
    """Serve an index: a page for people, an interface for programs.

    Keys come from VISAVIS_READ_KEYS and VISAVIS_ADMIN_KEYS (separated by commas) or from --keys.
    """
    config = _config(host, port, keys, uploads, open_to_all=without_keys)
    config.check_reach()  # mistakes are said before the index is loaded
    place = device_name(device)
    try:
        from visavis.server.app import create_app
        from visavis.server.listen import listen
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "fastapi", "serve") from error
    from visavis.search.index import Index

    opened = Index.open(find_index(index), model=model, device=place)
    try:
        listen(create_app(opened, config), config, said=_say)
    finally:
        opened.close()


def _config(
    host: str, port: int, keys: Path | None, uploads: Path | None, *, open_to_all: bool
) -> ServeConfig:
    from visavis.server.keys import keys_from_environment, keys_from_file
    from visavis.server.settings import ServeConfig

    held = {
        role: keys_from_environment(os.environ, role)
        + (keys_from_file(keys, role) if keys is not None else ())
        for role in ("read", "admin")
    }
    return ServeConfig(
        host=host,
        port=port,
        read_keys=held["read"],
        admin_keys=held["admin"],
        open=open_to_all,
        uploads=None if uploads is None else str(uploads.resolve()),
    )


def _say(address: str) -> None:
    typer.echo(f"open {address}  (Ctrl+C stops)")
