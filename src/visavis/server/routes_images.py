"""Pictures by id, and changes of the index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as InPath
from starlette.responses import FileResponse

from visavis.extract.pictures import FORMATS
from visavis.server.common import PROBLEMS, service_of
from visavis.server.pictures import CONTENT_TYPES, tag_of, width_for
from visavis.server.problems import Refused
from visavis.server.routes_search import urls
from visavis.server.schemas import ID, ImageOut, JobOut
from visavis.server.service import Service
from visavis.server.uploads import drop, keep

router = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["pictures"])
Serving = Annotated[Service, Depends(service_of)]
Id = Annotated[str, InPath(pattern=ID)]
_KEEP = {"cache-control": "private, max-age=300"}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": {"image/*": {}}},
    304: {"description": "It has not changed."},
}


@router.get("/images/{id}", response_class=FileResponse, responses=_PICTURE)
async def image(id: Id, request: Request, service: Serving) -> Response:
    """The picture's file as it lies in the indexed folder."""
    path = await service.pictures(lambda: service.file_of(id))
    content_type = CONTENT_TYPES.get(path.suffix.lower())
    if content_type is None:
        raise Refused(404, "the file is no picture of a known kind")
    tag = tag_of(path)
    if _known(request, tag):
        return Response(status_code=304, headers={**_KEEP, "etag": tag})
    return FileResponse(path, media_type=content_type, headers={**_KEEP, "etag": tag})


@router.get("/images/{id}/thumbnail", response_class=Response, responses=_PICTURE)
async def thumbnail(
    id: Id,
    request: Request,
    service: Serving,
    w: Annotated[int, Query(ge=1, le=4096, description="Width in pixels, at least.")] = 320,
) -> Response:
    """The picture as a small upright JPEG without the camera's data."""
    made = await service.pictures(lambda: service.thumbnails.of(service.file_of(id), width_for(w)))
    if _known(request, made.tag):
        return Response(status_code=304, headers={**_KEEP, "etag": made.tag})
    return Response(made.data, media_type="image/jpeg", headers={**_KEEP, "etag": made.tag})


@router.put(
    "/images/{id}",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                f"image/{kind.lower()}": {"schema": {"type": "string", "format": "binary"}}
                for kind in FORMATS
            },
        }
    },
)
async def put_image(id: Id, request: Request, response: Response, service: Serving) -> ImageOut:
    """Keep a picture and index it. Its id is the first 16 digits of its SHA-256."""
    folder = service.config.uploads
    if folder is None:
        raise Refused(409, "this service keeps no pictures; start it with --uploads FOLDER")
    sent = await request.body()
    new = await service.write(lambda: keep(service, Path(folder), id, sent))
    if not new:
        response.status_code = 200
    return ImageOut(id=id, **urls(id))


@router.delete("/images/{id}", status_code=204, response_class=Response)
async def delete_image(id: Id, service: Serving) -> Response:
    """Take a picture out of the index. Files stay, but those that were sent here."""
    folder = service.config.uploads
    held = None if folder is None else Path(folder)
    if not await service.write(lambda: drop(service.index, held, id)):
        raise Refused(404, "no such picture")
    return Response(status_code=204)


@router.post("/index/sync", status_code=202, summary="Bring the index up to date")
async def sync(service: Serving, response: Response) -> JobOut:
    """Look for new, changed and removed files, in the background."""
    job = service.jobs.start(lambda tell: service.index.sync(progress=tell))
    response.headers["location"] = f"/v1/jobs/{job.id}"
    return JobOut.model_validate(job)


@router.get("/jobs/{id}", summary="How far a job is")
async def job(id: Id, service: Serving) -> JobOut:
    """Background work by its id."""
    found = service.jobs.find(id)
    if found is None:
        raise Refused(404, "no such job; only the last ones are remembered")
    return JobOut.model_validate(found)


def _known(request: Request, tag: str) -> bool:
    return tag in request.headers.get("if-none-match", "")
