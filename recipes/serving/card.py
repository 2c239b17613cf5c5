"""The card of an exported classifier: what it is, on what it was trained, how good it is, how it was proved."""

import datetime

from recipes.saving import versions

_TOLD = (
    "base",
    "weights",
    "data",
    "image_size",
    "plan",
    "epochs",
    "learning_rate",
    "augmentation",
    "precision",
    "seed",
)


def make_card(result, samples, proofs, sizes, *, is_simplified, crops):
    """The card as plain JSON.

    Args:
        result: Result.
        samples: Samples that the proofs were made with.
        proofs: `{format: what was proved}`.
        sizes: `{format: bytes}`.
        is_simplified: whether the network was rewritten for serving.
        crops: over how many crops it averages.

    Returns:
        dictionary.
    """
    report = result.report
    told = samples.in_the_report(result)
    card = {
        "name": result.model.name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "classes": list(result.class_names),
        "input": {
            "files": "JPEG, PNG, WebP, GIF (first frame) or BMP of any size" if result.channels in (1, 3) else None,
            "image_size": list(result.image_size),
            "channels": result.channels,
            "range": "RGB 0-255" if result.channels == 3 else "0-255",
            "resize": result.resize,
        },
        "parameters": int(result.model.count_params()),
        "is_simplified": is_simplified,
        "crops": crops,
        "bytes": sizes,
        "proof": {"samples": samples.source, "of": samples.total, "formats": proofs},
        "versions": versions(),
    }
    if told["images"]:
        card["proof"]["in_the_report"] = told
    if report is not None:
        card["trained_on"] = {
            name: report.settings[name] for name in (*_TOLD, "data_fingerprint") if name in report.settings
        } | {"images": len(result.trained_on)}
        card["measured_on"] = report.split
        card["scores"] = report.scores
        card["per_class"] = report.per_class
    return card


def card_text(card):
    """The card as Markdown for people."""
    size = "×".join(str(side) for side in card["input"]["image_size"])
    is_many = card["crops"] > 1
    lines = [f"# {card['name']}", "", f"An image classifier, exported {card['created']}.", ""]
    lines += [
        f"- **Classes** ({len(card['classes'])}): {', '.join(card['classes'][:50])}"
        + (" …" if len(card["classes"]) > 50 else "")
    ]
    lines += [
        f"- **Input**: {card['input']['files'] or 'arrays'}; brought to {size} pixels ({card['input']['resize']})"
    ]
    lines += [f"- **Parameters**: {card['parameters']:,}"]
    if "scores" in card:
        told = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in card["scores"].items())
        lines += [f"- **Measured** on the {card['measured_on']} split{', by one crop' * is_many}: {told}"]
        if is_many and "in_the_report" in card["proof"]:
            lines += [
                f"- **Averaged over {card['crops']} crops**: accuracy {card['proof']['in_the_report']['accuracy']:.4g}"
            ]
        settings = ", ".join(f"{name} {value}" for name, value in card["trained_on"].items() if value is not None)
        lines += [f"- **Trained on** {settings}"]
    else:
        lines += ["- **Not measured** by this package: it was exported from a bare model"]
    lines += ["", f"Proved on {card['proof']['samples']}, each format in a fresh process, against the model:", ""]
    lines += [
        "| format | bytes | samples | same first class | largest difference | bound |",
        "|---|---|---|---|---|---|",
    ]
    for name, proof in card["proof"]["formats"].items():
        lines += [
            f"| {name} | {card['bytes'][name]:,} | {proof['samples']} | {proof['top_1_identical']} "
            f"| {proof['largest_difference']:.2g} | {proof['tolerance']:g} |"
        ]
    told = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    return "\n".join([*lines, "", f"Made with {told}.", ""])
