"""The model by itself: ordering, vectors, names; in shapes that other programs speak already."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends

from visavis.server.common import PROBLEMS, check_text, service_of
from visavis.server.problems import Refused
from visavis.server.schemas import (
    Embedding,
    EmbeddingsBody,
    EmbeddingsOut,
    ImageQuery,
    ImageRef,
    IndexOut,
    ModelOut,
    ModelsOut,
    RerankBody,
    RerankHit,
    RerankOut,
)
from visavis.server.scorer import Asked
from visavis.server.service import Service, name_of

router = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["models"])
_TOGETHER = 25  # pictures that one filter names
Serving = Annotated[Service, Depends(service_of)]


@router.post("/rerank", summary="Order pictures by a sentence, or sentences by a picture")
async def rerank(body: RerankBody, service: Serving) -> RerankOut:
    """The model's own scores of named documents, best first."""
    check_model(service, body.model)
    if len(body.documents) > service.config.items:
        raise Refused(422, f"documents: at most {service.config.items}")
    if isinstance(body.query, ImageQuery):
        scores = await _sentences(service, body.query.image, body.documents)
    else:
        scores = await _images(service, body.query, body.documents)
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    results = [
        RerankHit(
            index=place,
            relevance_score=scores[place],
            document=_shown(body.documents[place]) if body.return_documents else None,
        )
        for place in order[: body.top_n]
    ]
    return RerankOut(id=f"rerank-{secrets.token_hex(8)}", model=service.model_name, results=results)


async def _images(service: Service, query: str, documents: Sequence[str | ImageRef]) -> list[float]:
    check_text(service.config, query)
    ids = [one.id if isinstance(one, ImageRef) else one for one in documents]
    each = list(dict.fromkeys(ids))
    for image_id in each:
        service.check_id(image_id)
    found: dict[str, float] = {}
    for start in range(0, len(each), _TOGETHER):
        asked = _named(each[start : start + _TOGETHER])
        found |= {hit.id: hit.score for hit in (await service.search(query, asked)).hits}
    if len(found) < len(each):
        raise Refused(404, "documents: no such picture among them")
    return [found[image_id] for image_id in ids]


def _named(ids: Sequence[str]) -> Asked:
    """Exact scores of named pictures; ids were checked, so they need no escaping."""
    listed = ", ".join(f"'{image_id}'" for image_id in ids)
    return Asked(k=len(ids), where=f"id IN ({listed})", exact=True)


async def _sentences(
    service: Service, image_id: str, documents: Sequence[str | ImageRef]
) -> list[float]:
    texts = [one for one in documents if isinstance(one, str)]
    if len(texts) < len(documents):
        raise Refused(422, "a picture orders sentences: documents are texts")
    for text in texts:
        check_text(service.config, text)
    each = list(dict.fromkeys(texts))
    answer = await service.model(
        lambda: service.index.captions(image_id, k=len(each), sentences=each), image_id
    )
    score = {hit.text: hit.score for hit in answer.hits}
    return [score[text] for text in texts]


def _shown(document: str | ImageRef) -> dict[str, str]:
    return {"id": document.id} if isinstance(document, ImageRef) else {"text": document}


@router.post("/embeddings", summary="Sentences as vectors of the first stage")
async def embeddings(body: EmbeddingsBody, service: Serving) -> EmbeddingsOut:
    """Their inner products with the pictures' vectors are the scores of the first stage."""
    check_model(service, body.model)
    texts = [body.input] if isinstance(body.input, str) else body.input
    if len(texts) > service.config.items:
        raise Refused(422, f"input: at most {service.config.items} sentences")
    for text in texts:
        check_text(service.config, text)
    vectors = await service.model(lambda: service.index.embed(texts))  # (N, P)
    if body.dimensions not in (None, vectors.shape[1]):
        raise Refused(422, f"dimensions: the model has {vectors.shape[1]}")
    found = np.ascontiguousarray(vectors, dtype="<f4")
    as_text = body.encoding_format == "base64"
    data = [
        Embedding(
            index=place,
            embedding=base64.b64encode(row.tobytes()).decode() if as_text else row.tolist(),
        )
        for place, row in enumerate(found)
    ]
    words = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": words, "total_tokens": words}
    return EmbeddingsOut(data=data, model=service.model_name, usage=usage)


def check_model(service: Service, asked: str | None) -> None:
    """Refuse to answer in another model's name.

    Raises:
        Refused: a model that does not serve here.
    """
    if asked is not None and asked != service.model_name:
        raise Refused(404, "no such model here; GET /v1/models names the one that answers")


@router.get("/models", summary="The models that answer")
async def models(service: Serving) -> ModelsOut:
    """One: the one the index was built with."""
    info = await service.info()
    return ModelsOut(
        data=[
            ModelOut(
                id=service.model_name,
                extractor=info.extractor,
                first_stage=name_of(info.first_stage),
            )
        ]
    )


@router.get("/index", summary="What is searched, and what the service takes")
async def index(service: Serving) -> IndexOut:
    """Sizes, names and limits."""
    info, config = await service.info(), service.config
    return IndexOut(
        images=info.images,
        sentences=info.sentences,
        model=service.model_name,
        extractor=info.extractor,
        first_stage=name_of(info.first_stage),
        recommended_candidates=info.recommended_candidates,
        limits={
            "results": config.results,
            "candidates": config.candidates,
            "query_characters": config.query_characters,
            "upload_megabytes": config.upload_megabytes,
            "megapixels": config.megapixels,
        },
        uploads=config.uploads is not None,
    )
