"""CAMP: two encoders, and the module that compares their fragments.

The published code compares in four ways (`measure`); what each has, the weights tell. The code
never hands its option `fusion_func` on, so that the weights tell this too.
"""

from __future__ import annotations

from collections.abc import Sequence

from visavis.convert.family import Family, Settings
from visavis.convert.gru_families import TEXT, image_sizes, text_sizes
from visavis.convert.published import Published
from visavis.errors import CheckpointError

PADDED_TO = 50  # words, to which the published code fills sentences up
MAX_WORDS = 49  # it cuts after 47 words and adds the two end marks
NAMES = {
    "image.fc.": "project.linear.",
    **TEXT,
    "pair.img_key_fc.": "regions.key.",
    "pair.txt_key_fc.": "words.key.",
    "pair.img_query_fc.": "regions.query.",
    "pair.txt_query_fc.": "words.query.",
    "pair.weighted_img_key_fc.": "regions.again_key.",
    "pair.weighted_txt_key_fc.": "words.again_key.",
    "pair.weighted_img_query_fc.": "regions.again_query.",
    "pair.weighted_txt_query_fc.": "words.again_query.",
    "pair.fc_1.0.": "regions.fusion.linear.",
    "pair.fc_2.0.": "words.fusion.linear.",
    "pair.fc_out.0.": "mlp.0.",
    "pair.fc_out.3.": "mlp.2.",
    # The second map's bias moves all logits of a head alike: it does nothing and is dropped.
    **{
        f"pair.{name}_{number}.linear.{theirs}.": f"{side}.pool.{ours}."
        for name in ("reduce_layer", "final_reduce")
        for number, side in ((1, "regions"), (2, "words"))
        for theirs, ours in ((0, "linear"), (2, "out"))
    },
}


def _sizes(published: Published) -> Settings:
    sides = {published.options.get(option) for option in ("no_imgnorm", "no_txtnorm")}
    if len(sides) > 1:
        raise CheckpointError(
            f"{published.path}: trained with lengths of 1 on one side alone; CAMP is read with "
            "no_imgnorm and no_txtnorm alike"
        )
    pools = [name for name in ("reduce_layer", "final_reduce") if _pools(published, name)]
    fuses = published.has(2, "fc_1.0.weight")
    settings: Settings = {
        **image_sizes(published),
        **text_sizes(published),
        "variant": "code_new" if published.has(2, "img_query_fc.weight") else "code_v1",
        "gate": "scalar",
        "fuse": fuses,
        "match": "mlp" if fuses else "cosine",
        "pooling": "attention" if pools else "mean",
        "padded_to": 0 if pools else PADDED_TO,
    }
    if fuses:
        rows, columns = published.shape(2, "fc_1.0.weight")
        settings["fusion"] = "concat" if columns > rows else "add"
    if pools:
        settings["heads"] = published.shape(2, f"{pools[0]}_1.linear.2.weight")[0]
    return settings


def _pools(published: Published, name: str) -> bool:
    return published.has(2, f"{name}_1.linear.0.weight")


def _fresh(settings: Settings) -> Sequence[str]:
    """The first stage has neither fusion nor perceptron, and may have no pooling; they wait."""
    waiting = []
    if not settings["fuse"]:
        waiting += ["mlp.", "regions.fusion.", "words.fusion."]
    if settings["pooling"] == "mean":
        waiting += ["regions.pool.", "words.pool."]
    return waiting


CAMP = Family(
    model="camp",
    title="CAMP",
    parts=("image", "sentence", "pair"),
    names=NAMES,
    recognised=lambda published: published.has(2, "img_key_fc.weight"),
    sizes=_sizes,
    negated={"normalise": "no_imgnorm"},
    needed={"self_attention": (False,), "bi_gru": (True,)},
    dropped=("pair.*.linear.2.bias",),
    fresh=_fresh,
    max_words=MAX_WORDS,
)
