"""Knowledge distillation: a network learns what another one answers, not only what is right."""

import keras


class Teaching:
    """Adds to a student, for as long as it trains, the loss against a teacher's answers.

    Both give probabilities: their logarithms are logits up to a constant, which softmax forgets.

    Args:
        teacher: keras.Model from the same images to the same classes; it is not changed.
        weight: share of the loss that goes by the teacher, above 0 and below 1.
        temperature: both answers are softened by, above 0.

    Source:
        Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network".
    """

    def __init__(self, teacher, weight, temperature):
        # By its name, Keras 3.15 takes the divergence of the logits themselves, which is no divergence.
        divergence = keras.losses.KLDivergence()
        self._loss = keras.distillation.LogitsDistillation(temperature=temperature, loss=divergence)
        self._teacher = teacher
        self._factor = weight / (1 - weight)  # beside a label loss that counts once

    def over(self, student):
        """A model that answers as `student`, whose layers it shares, and in training adds the loss."""
        image = student.inputs[0]
        answers = _Taught(self.lesson)([image, student.outputs[0]])
        return keras.Model(image, answers, name=student.name)

    def lesson(self, images, probabilities):
        """What the answers of a student to a batch of images cost."""
        wanted = self._teacher(keras.ops.cast(images, self._teacher.inputs[0].dtype), training=False)
        return self._factor * self._loss.compute_loss(_logits(wanted), _logits(probabilities))


def _logits(probabilities):
    return keras.ops.log(keras.ops.maximum(keras.ops.cast(probabilities, "float32"), 1e-7))


class _Taught(keras.layers.Layer):
    """Hands on a student's probabilities; in training it adds their distance from the teacher's."""

    def __init__(self, lesson, **options):
        super().__init__(name="taught", dtype="float32", **options)
        self._lesson = lesson  # a method: the teacher behind it is not tracked, and so neither trained nor saved

    def call(self, inputs, training=False):
        images, probabilities = inputs
        if training:
            self.add_loss(self._lesson(images, probabilities))
        return probabilities

    def get_config(self):
        return {"name": self.name}
