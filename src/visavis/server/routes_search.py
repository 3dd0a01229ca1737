"""Searching: sentences ask for pictures, pictures ask for pictures and for sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, File, Form, UploadFile

from visavis.server.common import PROBLEMS, check_limits, check_text, service_of
from visavis.server.pictures import sound
from visavis.server.problems import Refused
from visavis.server.schemas import (
    ID,
    CaptionsOut,
    ExplainBody,
    ExplainOut,
    HitOut,
    SearchBody,
    SearchOut,
    SentenceOut,
    StageOut,
)
from visavis.server.scorer import Asked
from visavis.server.service import Service
from visavis.server.uploads import id_of

if TYPE_CHECKING:
    from visavis.search.index import Answer, Hit, Stage

router = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["search"])
Serving = Annotated[Service, Depends(service_of)]
Upload = Annotated[UploadFile | None, File(description="A picture file.")]
FormId = Annotated[str | None, Form(description="Or a picture of the index.", pattern=ID)]
FormK = Annotated[int, Form(ge=1)]


@router.post("/search", summary="Pictures for a sentence")
async def search(body: SearchBody, service: Serving) -> SearchOut:
    """The pictures that fit a sentence best, with the time of each stage."""
    check_text(service.config, body.query)
    check_limits(service.config, body.k, body.where, body.candidates)
    if body.rerank is None:
        asked = Asked(k=body.k, where=body.where, candidates=body.candidates, exact=body.exact)
        return search_out(service, await service.search(body.query, asked))
    answer = await service.model(
        lambda: service.index.search(
            body.query,
            k=body.k,
            where=body.where,
            candidates=body.candidates,
            exact=body.exact,
            rerank=body.rerank,
        )
    )
    service.metrics.staged(answer.stages)
    return search_out(service, answer)


@router.post("/search/image", summary="Pictures like a picture")
async def search_by_image(
    service: Serving,
    image: Upload = None,
    id: FormId = None,
    k: FormK = 10,
    where: Annotated[str | None, Form()] = None,
) -> SearchOut:
    """The pictures that look most alike: send a file as `image`, or the `id` of one."""
    check_limits(service.config, k, where, None)
    picture = await asked_picture(service, image, id)
    answer = await service.model(
        lambda: service.index.search_by_image(picture, k=k, where=where), id
    )
    service.metrics.staged(answer.stages)
    return search_out(service, answer)


@router.post("/captions", summary="Sentences for a picture")
async def captions(
    service: Serving,
    image: Upload = None,
    id: FormId = None,
    k: FormK = 10,
) -> CaptionsOut:
    """The sentences that fit a picture best, of those that are kept with the index."""
    check_limits(service.config, k, None, None)
    picture = await asked_picture(service, image, id)
    answer = await service.model(lambda: service.index.captions(picture, k=k), id)
    service.metrics.staged(answer.stages)
    return CaptionsOut(
        results=[SentenceOut.model_validate(hit) for hit in answer.hits],
        stages=stages_out(answer.stages),
        took_ms=took(answer.stages),
        gallery=answer.gallery,
        model=service.model_name,
    )


@router.post("/explain", summary="Why a picture and a sentence match")
async def explain(body: ExplainBody, service: Serving) -> ExplainOut:
    """Which words met which regions, and what each word is worth."""
    check_text(service.config, body.query)
    service.check_id(body.id)
    found = await service.model(lambda: service.index.explain(body.id, body.query), body.id)
    return ExplainOut(
        id=body.id,
        query=body.query,
        words=list(found.words),
        boxes=found.boxes.tolist(),
        weights=found.weights.tolist(),
        word_scores=found.word_scores.tolist(),
        score=found.score,
        kind=found.kind,
        model=service.model_name,
    )


async def asked_picture(
    service: Service, image: UploadFile | None, image_id: str | None
) -> bytes | str:
    """The picture that asks: bytes that were decoded here once, or an id.

    Raises:
        Refused: neither or both, or no picture.
    """
    if (image is None) == (image_id is None):
        raise Refused(422, "send either a picture file as `image` or the `id` of one")
    if image_id is not None:
        return image_id
    if image is None:
        raise AssertionError("one of the two is there")
    sent = await image.read()
    return await service.pictures(lambda: known_or_sound(service, sent))


def known_or_sound(service: Service, sent: bytes) -> bytes | str:
    """The id of a picture that the index holds already, else the picture made sound.

    Raises:
        Refused: no picture that can be decoded.
    """
    image_id = id_of(sent)
    if service.holds(image_id):
        return image_id
    return sound(sent, service.config.megapixels)


def search_out(service: Service, answer: Answer) -> SearchOut:
    """An answer as it goes out."""
    return SearchOut(
        query=answer.query,
        results=[hit_out(hit) for hit in answer.hits],
        stages=stages_out(answer.stages),
        took_ms=took(answer.stages),
        exact=answer.exact,
        candidates=answer.candidates,
        gallery=answer.gallery,
        matches_well=answer.matches_well,
        model=service.model_name,
    )


def hit_out(hit: Hit) -> HitOut:
    """A hit as it goes out, with where to get its picture."""
    return HitOut(
        id=hit.id,
        rank=hit.rank,
        score=hit.score,
        first_score=hit.first_score,
        path=hit.path,
        width=hit.width,
        height=hit.height,
        taken=hit.taken,
        tags=hit.tags,
        **urls(hit.id),
    )


def urls(image_id: str) -> dict[str, Any]:
    """Where a picture is to be had."""
    url = f"/v1/images/{quote(image_id, safe='')}"
    return {"image_url": url, "thumbnail_url": f"{url}/thumbnail"}


def stages_out(stages: tuple[Stage, ...]) -> list[StageOut]:
    """Stages in milliseconds."""
    return [
        StageOut(name=stage.name, ms=round(stage.seconds * 1000, 3), items=stage.items)
        for stage in stages
    ]


def took(stages: tuple[Stage, ...]) -> dict[str, float]:
    """Milliseconds by stage, and of all."""
    each: dict[str, float] = {stage.name: round(stage.seconds * 1000, 3) for stage in stages}
    return {**each, "total": round(sum(stage.seconds for stage in stages) * 1000, 3)}
