"""Recipes on Keras 3 that turn a folder of photos into a classifier you can trust and serve."""

import importlib

_ROOMS = {
    "Advice": "advising.advice",
    "Advices": "advising.advice",
    "Caches": "caching",
    "Checkup": "sanity.checkup",
    "Compression": "compression.compressions",
    "ConvStage": "redesigning.stages",
    "Cost": "values",
    "Data": "values",
    "Design": "redesigning.designs",
    "Designs": "redesigning.designs",
    "Finding": "sanity.checkup",
    "LayerCost": "values",
    "LayerwiseOptimizer": "training.layerwise",
    "Novelty": "values",
    "Packed": "compression.packing",
    "PackedTensor": "compression.packed_files",
    "Prediction": "values",
    "Probe": "probing.probes",
    "ProbedBlock": "probing.probes",
    "RateSweep": "training.rate_sweep",
    "Recovery": "compression.recovering",
    "Report": "values",
    "Result": "values",
    "Rung": "compression.compressions",
    "Search": "values",
    "Sensitivity": "compression.sensitivities",
    "Split": "values",
    "Stage": "values",
    "Trial": "values",
    "accelerate": "acceleration.accelerating",
    "add_class": "neighbours.adding",
    "advise": "advising.advising",
    "cache": "caching",
    "check": "sanity.checking",
    "complexity": "redesigning.stages",
    "compress": "compression.ladder",
    "cost": "costs.costing",
    "deep_compress": "compression.deep_compression",
    "detect_unknown": "neighbours.detecting",
    "ensemble": "ensembling",
    "evaluate": "evaluation",
    "export": "serving.exporting",
    "factor": "compression.low_rank",
    "few_bits": "compression.few_bits",
    "find_lr": "rate_finding",
    "finetune": "finetuning",
    "fit_knn": "neighbours.fitting",
    "fold": "compression.folding",
    "list_bases": "bases",
    "load": "saving",
    "load_data": "data",
    "pack": "compression.packing",
    "plot_check": "reporting.check_plots",
    "plot_augmentation": "training.showing",
    "plot_confusion": "reporting.plots",
    "plot_cost": "reporting.cost_plots",
    "plot_curves": "reporting.plots",
    "plot_probe": "reporting.probes",
    "plot_rates": "reporting.rate_plots",
    "plot_search": "reporting.search_plots",
    "predict": "prediction",
    "probe": "probing.probing",
    "prune_units": "compression.unit_pruning",
    "prune_weights": "compression.weight_pruning",
    "quantize": "compression.quantization",
    "redesign": "redesigning.redesigning",
    "save": "saving",
    "search": "searching.searching",
    "sensitivity": "compression.sensitivities",
    "serve": "serving.server",
    "share_weights": "compression.weight_sharing",
    "unpack": "compression.packing",
}
__all__ = sorted(_ROOMS)


def __getattr__(name):
    """Bring in a public name when it is first used, so that `recipes --help` need not import TensorFlow."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'recipes' has no attribute {name!r}. It has {', '.join(__all__)}.")
    value = getattr(importlib.import_module(f"recipes.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
