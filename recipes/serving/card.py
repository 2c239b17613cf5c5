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


def make_card(result, samples, proofs, sizes, *, precisions, is_simplified, crops, is_of_file=False):
    """The card as plain JSON.

    Args:
        result: Result.
        samples: Samples that the proofs were made with.
        proofs: `{format: what was proved}`.
        sizes: `{format: bytes}`.
        precisions: `{format: precision}`, as far as it is not float32.
        is_simplified: whether the network was rewritten for serving.
        crops: over how many crops it averages.
        is_of_file: whether the scores were measured by the file itself.

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
        "precision": {name: precisions.get(name, "float32") for name in sizes},
        "is_measured_as_file": is_of_file,
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
    is_many = card["crops"] != 1
    over = "five scales" if card["crops"] == "resnet" else f"{card['crops']} crops"
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
        is_other = set(card["precision"].values()) != {"float32"}
        how = ", by this file" if card["is_measured_as_file"] else ", in float32" * is_other
        lines += [f"- **Measured** on the {card['measured_on']} split{', by one crop' * is_many}{how}: {told}"]
        if is_many and "in_the_report" in card["proof"]:
            lines += [f"- **Averaged over {over}**: accuracy {card['proof']['in_the_report']['accuracy']:.4g}"]
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
    lines += [_said_of(name, proof, card) for name, proof in card["proof"]["formats"].items() if "from_model" in proof]
    told = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    return "\n".join([*lines, "", f"Made with {told}.", ""])


def _said_of(name, proof, card):
    """A line on a file that answers otherwise than the model by its nature."""
    apart, measured = proof["from_model"], proof.get("in_the_report")
    line = (
        f"\n**{name}** has the precision {card['precision'][name]}. The table above is against what the file itself "
        f"answered where it was measured. Against the model, {apart['top_1_identical']} of {proof['samples']} first "
        f"classes are the same, and probabilities differ by up to {apart['largest_difference']:.2g}."
    )
    return line + (f" Accuracy of the file on these samples: {measured['accuracy']:.4g}." if measured else "")
