"""The application: routes, the door before them, and the workers behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from visavis import __version__
from visavis.server import pages, routes_images, routes_models, routes_search
from visavis.server.common import service_of
from visavis.server.door import Door
from visavis.server.keys import needed
from visavis.server.metrics import CONTENT_TYPE
from visavis.server.problems import Refused, invalid, problem
from visavis.server.service import Service
from visavis.server.settings import ServeConfig

if TYPE_CHECKING:
    from visavis.search.index import Index


def create_app(index: Index, config: ServeConfig | None = None) -> FastAPI:
    """The service of an index, for any server that speaks ASGI.

    Args:
        index: what is searched; whoever opened it closes it.
        config: limits and keys; default: this machine alone, no keys.
    """
    settings = config or ServeConfig()
    service = Service.make(index, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    app = FastAPI(
        title="visavis",
        version=__version__,
        summary="A sentence finds pictures, a picture finds sentences.",
        lifespan=lifespan,
        docs_url=None,  # the usual pages fetch scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
    )
    app.state.service = service
    for routes in (routes_search, routes_images, routes_models):
        app.include_router(routes.router)
    _add_health(app, service)
    pages.add(app)
    _add_problems(app)
    app.add_middleware(Door, config=settings, metrics=service.metrics)
    return app


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["health"], summary="Whether the service runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], summary="Whether it can answer")
    async def readyz(request: Request) -> dict[str, str]:
        await service_of(request)
        return {"status": "ready"}

    @app.get(
        "/metrics",
        tags=["health"],
        summary="Counts and times, as Prometheus reads them",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return described(app)


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> Response:
        return invalid(error.errors())

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), headers=error.headers)


def described(app: FastAPI) -> dict[str, Any]:
    """The interface as OpenAPI, with the keys that each route asks for."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        schema["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        for path, methods in schema["paths"].items():
            for method, operation in methods.items():
                if needed(method.upper(), path) is not None:
                    operation["security"] = [{"bearer": []}, {"key": []}, {}]
        app.openapi_schema = schema
    return app.openapi_schema
