"""SCAN, BFAN and VSRN, and what AOQ trained of them: a map of regions, and a GRU over words."""

from __future__ import annotations

from visavis.convert.family import Family, Settings
from visavis.convert.published import Published

TEXT = {
    "sentence.embed.": "text.encoder.embed.",
    "sentence.rnn.": "text.encoder.rnn.",
}
MAPPED = {
    "image.fc.": "project.linear.",
    # With weight_norm: a norm and a direction.
    "image.fc.weight_g": "project.linear.parametrizations.weight.original0",
    "image.fc.weight_v": "project.linear.parametrizations.weight.original1",
}
RELATION = {  # inside each of VSRN's four layers
    "theta.": "theta.",
    "phi.": "phi.",
    "g.": "value.",
    "W.0.": "out.",
    "W.1.": "norm.",
}
CAPTION = {  # only AOQ keeps these
    "caption.encoder.vid2hid.": "captioner.project.",
    "caption.encoder.rnn.": "captioner.encoder.",
    "caption.decoder.embedding.": "captioner.embed.",
    "caption.decoder.attention.linear1.": "captioner.compare.",
    "caption.decoder.attention.linear2.": "captioner.relevance.",
    "caption.decoder.rnn.weight_ih_l0": "captioner.decoder.weight_ih",
    "caption.decoder.rnn.weight_hh_l0": "captioner.decoder.weight_hh",
    "caption.decoder.rnn.bias_ih_l0": "captioner.decoder.bias_ih",
    "caption.decoder.rnn.bias_hh_l0": "captioner.decoder.bias_hh",
    "caption.decoder.out.": "captioner.predict.",
}


def text_sizes(published: Published) -> Settings:
    """Vocabulary, word width and directions of the GRU."""
    vocab_size, word_dim = published.shape(1, "embed.weight")
    both = published.has(1, "rnn.weight_ih_l0_reverse")
    return {"vocab_size": vocab_size, "text": {"word_dim": word_dim, "bidirectional": both}}


def image_sizes(published: Published) -> Settings:
    """Width of the regions and of the joint space."""
    normed = published.has(0, "fc.weight_v")
    dim, region_dim = published.shape(0, "fc.weight_v" if normed else "fc.weight")
    return {"dim": dim, "region_dim": region_dim}


def _sizes(published: Published) -> Settings:
    return {**image_sizes(published), **text_sizes(published)}


def _scan_sizes(published: Published) -> Settings:
    return {**_sizes(published), "weight_normalised": published.has(0, "fc.weight_v")}


def _vsrn_sizes(published: Published) -> Settings:
    """What differs between the corpora, the weights tell: only Flickr30K's have `bn`."""
    batch_norm = published.has(0, "bn.weight")
    caption: Settings = {"weight": 0.0}
    if len(published.parts) > 2:
        dim = published.shape(2, "encoder.vid2hid.weight")[0]
        caption = {"dim": dim, "word_dim": published.shape(2, "decoder.embedding.weight")[1]}
        for setting, option in (("dropout", "input_dropout_p"), ("max_words", "max_len")):
            value = published.number(option)
            if value is not None:
                caption[setting] = value
    return {
        **_sizes(published),
        "normalise_regions": not batch_norm,
        "batch_norm": batch_norm,
        "caption": caption,
        "legacy": True,
    }


SCAN = Family(
    model="scan",
    title="SCAN",
    parts=("image", "sentence"),
    names={**MAPPED, **TEXT},
    recognised=lambda published: "cross_attn" in published.options,
    sizes=_scan_sizes,
    options={
        "direction": "cross_attn",
        "lambda_softmax": "lambda_softmax",
        "lambda_lse": "lambda_lse",
        "aggregation": "agg_func",
        "feature_norm": "raw_feature_norm",
    },
    negated={"normalise_images": "no_imgnorm", "normalise_sentences": "no_txtnorm"},
)
BFAN = Family(
    model="bfan",
    title="BFAN",
    parts=("image", "sentence"),
    names={"image.fc.": MAPPED["image.fc."], **TEXT},
    recognised=lambda published: "focal_type" in published.options,
    sizes=_sizes,
    options={"focal": "focal_type", "lambda_softmax": "lambda_softmax"},
    needed={"no_imgnorm": (False,), "no_txtnorm": (False,)},
)
VSRN = Family(
    model="vsrn",
    title="VSRN",
    parts=("image", "sentence", "caption"),
    names={
        "image.fc.": "project.linear.",
        **{
            f"image.Rs_GCN_{number + 1}.{theirs}": f"relations.{number}.{ours}"
            for number in range(4)
            for theirs, ours in RELATION.items()
        },
        "image.img_rnn.": "memory.",
        "image.bn.": "image_norm.",
        **TEXT,
        **CAPTION,
    },
    recognised=lambda published: published.has(0, "Rs_GCN_1.g.weight"),
    sizes=_vsrn_sizes,
    needed={"no_imgnorm": (False,), "use_abs": (False,), "measure": ("cosine",)},
)
