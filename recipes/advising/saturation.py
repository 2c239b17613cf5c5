"""Sigmoid and tanh between hidden layers, where they let gradients vanish."""

from recipes.advising.advice import MISTAKE, advice
from recipes.advising.measuring import activation_of

SATURATING = ("sigmoid", "tanh")
# Layers and operations of these names, when they take several tensors, multiply one by another.
GATES = ("Multiply", "Dot", "Einsum", "Matmul")


def saturating_activation(graph):
    """Sigmoid or tanh whose values go on to a layer with weights. Those that end in the network's output, and gates,
    whose values another tensor is multiplied by (highway and squeeze-and-excitation units, attention, gated units), are
    in their place.
    """
    found = [step for step in graph.steps if activation_of(step) in SATURATING and is_inside(graph, step)]
    if not found:
        return None
    names = " and ".join(dict.fromkeys(activation_of(step) for step in found))
    return advice(
        graph,
        "saturating_activation",
        MISTAKE,
        found,
        what=f"{names} between hidden layers, {len(found)} times.",
        reason="Where they are flat no gradient passes, and a sigmoid multiplies it by a quarter at most, each time: "
        "Glorot et al. 2011. Krizhevsky et al. 2012 reached the same training error six times faster with ReLU than "
        "with tanh.",
        mend='activation="relu", kernel_initializer="he_normal"',
    )


def is_inside(graph, step):
    """Whether what a step gives reaches a layer with weights before any gate."""
    waiting, seen = list(step.outputs), set()
    while waiting:
        tensor = waiting.pop()
        for user in graph.users(tensor):
            if id(user) in seen or _is_gate(user):
                continue
            seen.add(id(user))
            if getattr(user.operation, "weights", None):
                return True
            waiting += user.outputs
    return False


def _is_gate(step):
    return type(step.operation).__name__ in GATES and len(step.inputs) > 1
