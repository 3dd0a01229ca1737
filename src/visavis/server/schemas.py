"""What goes in and out over HTTP. Unknown keys are refused; numbers are finite."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# Ids follow a picture's content; nothing that could be part of a path is one.
ID = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"
ImageId = Annotated[str, StringConstraints(pattern=ID)]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Asking(BaseModel):
    """Base of what clients send."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class Said(BaseModel):
    """Base of what they get."""

    model_config = ConfigDict(from_attributes=True)


class SearchBody(Asking):
    """A sentence that asks for pictures."""

    query: Text = Field(examples=["two dogs running on the beach"])
    k: int = Field(10, ge=1, description="How many pictures.")
    where: str | None = Field(None, description="A filter on columns.", examples=["width >= 1000"])
    candidates: int | None = Field(
        None, ge=1, description="Pictures that the model itself scores; null: as recommended."
    )
    exact: bool = Field(default=False, description="Let the model score every picture.")
    rerank: Literal["reciprocal"] | None = Field(None, description="A last stage.")


class HitOut(Said):
    """A picture that was found."""

    id: str
    rank: int
    score: float
    first_score: float | None
    path: str = Field(description="Relative to the indexed folder.")
    width: int
    height: int
    taken: str | None
    tags: tuple[str, ...]
    image_url: str
    thumbnail_url: str


class StageOut(Said):
    """A step of an answer."""

    name: str
    ms: float
    items: int


class SearchOut(Said):
    """Pictures, best first, and how they were found."""

    query: str
    results: list[HitOut]
    stages: list[StageOut]
    took_ms: dict[str, float]
    exact: bool
    candidates: int
    gallery: int
    matches_well: bool | None = Field(description="false: nothing fits better than chance.")
    model: str


class SentenceOut(Said):
    """A sentence that was found."""

    rank: int
    score: float
    text: str


class CaptionsOut(Said):
    """Sentences, best first."""

    results: list[SentenceOut]
    stages: list[StageOut]
    took_ms: dict[str, float]
    gallery: int
    model: str


class ExplainBody(Asking):
    """A pair that is to be explained."""

    id: ImageId
    query: Text


class ExplainOut(Said):
    """Which words met which regions."""

    id: str
    query: str
    words: list[str]
    boxes: list[list[float]] = Field(description="x1 y1 x2 y2 as fractions of width and height.")
    weights: list[list[float]] = Field(description="A row for each word, a column for each region.")
    word_scores: list[float] = Field(description="What the score loses without the word.")
    score: float
    kind: Literal["attention", "left out"]
    model: str


class ImageRef(Asking):
    """A picture of the index."""

    id: ImageId


class ImageQuery(Asking):
    """A picture of the index that asks for sentences."""

    image: ImageId


class RerankBody(Asking):
    """A query and what is to be ordered by it, in the shape of Cohere's and Jina's interfaces.

    A sentence orders pictures by id; a picture, `{"image": ID}`, orders sentences.
    """

    query: Text | ImageQuery
    documents: list[Text | ImageRef] = Field(min_length=1)
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False
    model: str | None = None


class RerankHit(Said):
    """A place of a document."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankOut(Said):
    """Documents, best first."""

    id: str
    model: str
    results: list[RerankHit]


class EmbeddingsBody(Asking):
    """Sentences to vectors, in the shape of OpenAI's interface."""

    input: Text | Annotated[list[Text], Field(min_length=1)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, description="Must be what the model has.")
    user: str | None = None


class Embedding(Said):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsOut(Said):
    """Vectors of the first stage."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: dict[str, int]


class ModelOut(Said):
    """A model that answers."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "visavis"
    extractor: str
    first_stage: str


class ModelsOut(Said):
    """The models that answer."""

    object: Literal["list"] = "list"
    data: list[ModelOut]


class IndexOut(Said):
    """What is searched, and what the service takes."""

    images: int
    sentences: int
    model: str
    extractor: str
    first_stage: str
    recommended_candidates: int | None
    limits: dict[str, float]
    uploads: bool


class ImageOut(Said):
    """A picture that was written."""

    id: str
    image_url: str
    thumbnail_url: str


class JobOut(Said):
    """Work that goes on in the background."""

    id: str
    kind: Literal["sync"]
    state: Literal["waiting", "running", "done", "failed"]
    done: int
    total: int | None
    report: dict[str, Any] | None
    error: str | None


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None
