"""The k-nearest-neighbour head: exact against brute force and scikit-learn, growing, saved, and its losses."""

import gc

import keras
import numpy as np
import pytest
from fresh_python import run_python
from keras import ops
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import layers
from layers.heads._search import candidates_for, find_nearest, plan_blocks

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def material(rows=2000, width=16, queries=50, classes=4, offset=0.0, seed=0):
    """float32 features, labels and queries of normal numbers about `offset`."""
    random = np.random.default_rng(seed)
    features = (random.normal(size=(rows, width)) + offset).astype("float32")
    return (
        features,
        random.integers(0, classes, rows),
        (random.normal(size=(queries, width)) + offset).astype("float32"),
    )


def brute_force(features, queries, k):
    """Indices and squared distances in float64, ties by index."""
    squares = ((queries[:, None].astype("float64") - features[None].astype("float64")) ** 2).sum(-1)
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(squares, order, axis=1)


def search(features, queries, k, block, size=None):
    center = features.mean(axis=0, dtype="float64").astype("float32")
    arguments = [ops.convert_to_tensor(value) for value in (queries, features, center)]
    found = find_nearest(*arguments, ops.convert_to_tensor(size or len(features)), k, block)
    return [numpy(part) for part in found]


def filled(features, labels, k=5, **arguments):
    head = layers.KNNClassifier(k, **arguments)
    head.fit(features, labels)
    return head


@pytest.mark.parametrize("block", [200, 640, 4096])
@pytest.mark.parametrize(("offset", "rows"), [(0.0, 2000), (1000.0, 2000), (0.0, 2017)])
def test_indices_equal_brute_force(block, offset, rows):
    features, _, queries = material(rows, offset=offset)
    indices, squares = search(features, queries, 7, block)
    expected, distances = brute_force(features, queries, 7)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(squares, distances, rtol=1e-5)


@pytest.mark.parametrize("rows", [2000, 12000])
def test_ties_go_by_index(rows):
    """On a grid of whole numbers many distances are exactly equal, and every row stands three times."""
    random = np.random.default_rng(1)
    features = np.tile(random.integers(-9, 10, (rows // 3, 6)), (3, 1)).astype("float32")
    queries = random.integers(-9, 10, (40, 6)).astype("float32")
    np.testing.assert_array_equal(search(features, queries, 7, 3000)[0], brute_force(features, queries, 7)[0])


def test_rows_out_of_use_are_never_found():
    features, _, queries = material(900)
    features[300:] = queries[0]
    indices, _ = search(features, queries, 5, 200, size=300)
    np.testing.assert_array_equal(indices, brute_force(features[:300], queries, 5)[0])
    few, squares = search(features, queries, 5, 200, size=3)
    assert set(few[0]) == {0, 1, 2, -1}
    assert np.isinf(squares[:, 3:]).all()


@pytest.mark.parametrize("rows", [1, 31, 32, 1000, 1025, 16384, 16385, 100_000, 1_000_003])
@pytest.mark.parametrize("block", [512, 16384])
def test_blocks_cover_the_store_and_stay_small(rows, block):
    length, count, group = plan_blocks(rows, candidates_for(10), block)
    assert length * count >= rows
    assert length <= min(rows, block + group)
    assert length % group == 0
    assert length * (count - 2) < rows  # no block more than the overlap needs


def test_no_product_is_larger_than_queries_by_block(monkeypatch):
    made, product = [], ops.matmul

    def watched(*factors):
        made.append(product(*factors))
        return made[-1]

    monkeypatch.setattr("layers.heads._search.ops.matmul", watched)
    features, _, queries = material(20000, 8)
    search(features, queries, 5, 2048)
    assert {len(one.shape) for one in made} == {2}
    assert all(one.shape[0] == 50 and one.shape[1] <= 2048 + 32 for one in made)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighting", ["uniform", "distance"])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_probabilities_equal_scikit_learn(metric, weighting, offset):
    features, labels, queries = material(offset=offset)
    queries[:5] = features[:5]
    reference = KNeighborsClassifier(5, weights=weighting, metric=metric, algorithm="brute")
    kept = slice(5, None) if metric == "cosine" else slice(None)  # 1 − cosine is not exactly zero there in scikit-learn
    expected = reference.fit(features.astype("float64"), labels).predict_proba(queries.astype("float64"))[kept]
    given = numpy(filled(features, labels, weighting=weighting, metric=metric)(queries))[kept]
    # The cosine of nearly parallel rows has lost digits once they are of unit length in float32.
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_power_and_softmax_weights():
    features, labels, queries = material(300)
    indices, squares = brute_force(features, queries, 5)
    for arguments, weights in (
        ({"weighting": "power", "power": 3.0}, squares**-1.5),
        ({"weighting": "softmax", "temperature": 2.0}, np.exp(-squares / 2.0)),
    ):
        votes = np.eye(4)[labels[indices]] * weights[:, :, None]
        expected = votes.sum(1) / weights.sum(1, keepdims=True)
        np.testing.assert_allclose(numpy(filled(features, labels, **arguments)(queries)), expected, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("weighting", ["distance", "power"])
def test_an_exact_match_decides(weighting, offset):
    features, labels, _ = material(offset=offset)
    given = numpy(filled(features, labels, k=9, weighting=weighting)(features))
    np.testing.assert_array_equal(given, np.eye(4)[labels])


def test_gradients_to_the_queries_are_finite_also_at_a_match():
    features, labels, queries = material(60)
    queries[0] = features[0]
    head = filled(features, labels)
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(16, kernel_initializer="identity"), head])
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    before = numpy(model.layers[0].kernel).copy()
    model.train_on_batch(queries, np.eye(4)[np.arange(50) % 4].astype("float32"))
    assert np.isfinite(numpy(model.layers[0].kernel)).all()
    assert not np.array_equal(numpy(model.layers[0].kernel), before)


def test_add_brings_new_examples_and_classes():
    features, labels, queries = material(200)
    head = filled(features, labels)
    assert head.compute_output_shape((None, 16)) == (None, 4)
    new = np.full((6, 16), 20.0, "float32") + np.arange(6)[:, None]
    head.add(new, [4] * 6)
    given = numpy(head(np.concatenate([queries, new + 0.1])))
    assert given.shape == (56, 5)
    np.testing.assert_allclose(given[50:, 4], 1.0)
    together = filled(np.concatenate([features, new]), np.concatenate([labels, [4] * 6]))
    np.testing.assert_allclose(given[:50], numpy(together(queries)), atol=1e-6)


def test_compiled_functions_see_what_is_added():
    """Within the capacity at once; beyond it, on TensorFlow, a function compiled before answers NaN."""
    features, labels, _ = material(40)
    head = filled(features, labels, k=1, capacity=50, num_classes=6)
    model = keras.Sequential([keras.Input((16,)), head])
    assert model.output_shape == (None, 6)
    model.predict(features, verbose=0)
    new = np.full((1, 16), 30.0, "float32")
    head.add(new, [5])
    np.testing.assert_array_equal(model.predict(new, verbose=0).argmax(1), [5])
    head.add(np.arange(20 * 16, dtype="float32").reshape(20, 16) - 400, [4] * 20)
    stale = model.predict(new, verbose=0)
    assert np.isnan(stale).all() if ON_TENSORFLOW else stale.argmax() == 5
    model.make_predict_function(force=True)
    np.testing.assert_array_equal(model.predict(new, verbose=0).argmax(1), [5])
    head.fit(features, labels)  # fewer than before: the room stays, and what was added is forgotten
    assert model.predict(new, verbose=0).argmax() == labels[brute_force(features, new, 1)[0][0, 0]]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_beyond_the_threshold_the_answer_is_unknown(metric):
    features, labels, _ = material(200, 2)
    threshold = {"euclidean": 1.5, "cosine": 0.1}[metric]
    if metric == "cosine":
        features = np.abs(features)
    head = filled(features, labels, metric=metric, threshold=threshold)
    queries = np.array([features[0], [-90.0, -90.0]], "float32")
    given = numpy(head(queries))
    assert given.shape == (2, 5)
    assert given[0, 4] == 0
    np.testing.assert_allclose(given[0, :4].sum(), 1, atol=1e-6)
    np.testing.assert_array_equal(given[1], [0, 0, 0, 0, 1])


def test_a_query_of_nan_is_answered_by_nan():
    features, labels, queries = material(60)
    queries[3, 2] = np.nan
    for arguments in ({}, {"weighting": "uniform"}, {"weighting": "softmax"}, {"threshold": 1.0}):
        given = numpy(filled(features, labels, **arguments)(queries))
        assert np.isnan(given[3]).all()
        assert np.isfinite(np.delete(given, 3, axis=0)).all()


RELOAD = """
import sys, numpy as np, keras, layers
model = keras.saving.load_model(sys.argv[1] + "/model.keras")
np.save(sys.argv[1] + "/again.npy", model.predict(np.load(sys.argv[1] + "/queries.npy"), verbose=0))
"""


def grown_model():
    """A model whose head was filled when small, and grew after it was built."""
    features, labels, queries = material(120)
    head = filled(features[:20], labels[:20] % 3, threshold=9.0)
    model = keras.Sequential([keras.Input((16,)), head])
    head.add(features[20:], labels[20:])
    return model, queries


def test_a_grown_store_is_saved_and_reloaded_in_a_fresh_process(tmp_path):
    model, queries = grown_model()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "queries.npy", queries)
    run_python(RELOAD, tmp_path)
    again, expected = np.load(tmp_path / "again.npy"), numpy(model(queries))
    assert again.shape == (50, 5)
    np.testing.assert_allclose(again, expected, atol=1e-6)


@pytest.mark.parametrize("is_frozen", [False, True])
def test_growing_leaves_the_collector_as_it_was(is_frozen):
    features, labels, _ = material(120)
    head = filled(features[:20], labels[:20])
    if is_frozen:
        gc.freeze()
    try:
        head.add(features[20:], labels[20:])
        assert (gc.get_freeze_count() > 0) is is_frozen
    finally:
        gc.unfreeze()


def test_weights_of_a_grown_store_load_into_a_small_one(tmp_path):
    model, queries = grown_model()
    model.save_weights(tmp_path / "model.weights.h5")
    features, labels, _ = material(20, seed=9)
    other = keras.Sequential([keras.Input((16,)), filled(features, labels % 2, threshold=9.0)])
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(numpy(other(queries)), numpy(model(queries)), atol=1e-6)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="a SavedModel needs the TensorFlow backend")
def test_a_grown_store_is_exported(tmp_path):
    import tensorflow as tf

    model, queries = grown_model()
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    for count in (1, 50):
        np.testing.assert_allclose(served.serve(queries[:count]), numpy(model(queries[:count])), atol=1e-6)


def test_an_empty_head_can_be_built_into_a_model_and_filled_later():
    features, labels, queries = material(100)
    head = layers.KNNClassifier(3, num_classes=4)
    model = keras.Sequential([keras.Input((16,)), head])
    with pytest.raises(ValueError, match="k=3 with 0 examples"):
        head(queries)
    head.fit(features, labels)
    np.testing.assert_allclose(
        model.predict(queries, verbose=0), numpy(filled(features, labels, 3)(queries)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("features", "labels", "said"),
    [
        ([[1.0, 2.0]] * 2, [0, 1], "k=3 with 2 examples"),
        ([[1.0, np.nan]] * 4, [0] * 4, "features[0, 1]=nan"),
        ([[1.0, 2.0], [np.inf, 2.0]] * 2, [0] * 4, "features[1, 0]=inf"),
        ([[1.0, 2.0]] * 4, [0] * 3, "labels of shape (3,) for 4 rows"),
        ([[1.0, 2.0]] * 4, [0.5] * 4, "labels of dtype float64"),
        ([[1.0, 2.0]] * 4, [-1, 0, 0, 0], "from -1"),
        ([[1.0, 2.0]] * 4, [0, 0, 0, 7], "label 7"),
        ([1.0, 2.0], [0, 1], "features of shape (2,)"),
    ],
)
def test_bad_examples_are_refused_before_they_are_stored(features, labels, said):
    head = filled(np.eye(4, 2), [0, 1, 2, 3], k=3, num_classes=5)
    for method in (layers.KNNClassifier(3, num_classes=5).fit, head.add):
        if said.startswith("k=") and method == head.add:
            continue
        with pytest.raises(ValueError) as caught:
            method(np.array(features), np.array(labels))
        assert str(caught.value).startswith("KNNClassifier: ")
        assert said in str(caught.value)
    assert head.store.examples == 4


def test_a_head_refuses_features_of_another_width():
    head = filled(*material(20)[:2])
    with pytest.raises(ValueError, match=r"KNNClassifier: .*\(batch, 16\)"):
        head(np.zeros((2, 3), "float32"))
    with pytest.raises(ValueError, match="of zeros"):
        filled(np.zeros((9, 3), "float32"), np.zeros(9, int), metric="cosine")


LOSSES = {
    "1/d": (lambda: layers.KNNLoss(), lambda squares: (squares + 1e-6) ** -0.5),
    "1/d^4": (lambda: layers.KNNLoss(power=4.0), lambda squares: (squares + 1e-6) ** -2.0),
    "NCA": (lambda: layers.NCALoss(temperature=3.0), lambda squares: np.exp(-squares / 3.0)),
    "Student": (lambda: layers.StudentNCALoss(2.0), lambda squares: (1 + squares / 2.0) ** -1.5),
}
all_losses = pytest.mark.parametrize("name", LOSSES)


@all_losses
def test_losses_equal_the_formula(name):
    make, weigh = LOSSES[name]
    embeddings, labels, _ = material(24, 5, classes=3, offset=10.0)
    labels[-1] = 7  # alone of its label: loss 0
    squares = ((embeddings[:, None].astype("float64") - embeddings[None]) ** 2).sum(-1)
    weights = weigh(squares) * (1 - np.eye(24))
    shares = (weights * (labels[:, None] == labels)).sum(1)[:-1] / weights.sum(1)[:-1]
    expected = -np.log(shares).sum() / 24
    loss = make()
    assert float(numpy(loss(labels, embeddings))) == pytest.approx(expected, rel=1e-4)
    assert float(numpy(loss(labels[:, None], embeddings))) == pytest.approx(expected, rel=1e-4)
    assert type(loss).from_config(loss.get_config()).get_config() == loss.get_config()


@all_losses
def test_hits_are_the_votes_of_all_others(name):
    make, weigh = LOSSES[name]
    embeddings, labels, _ = material(24, 5, classes=3, offset=10.0)
    labels[-1] = 7  # alone of its label: nobody can tell it
    squares = ((embeddings[:, None].astype("float64") - embeddings[None]) ** 2).sum(-1)
    weights = weigh(squares) * (1 - np.eye(24))
    votes = np.stack([(weights * (labels == label)).sum(1) for label in range(8)], 1)
    received = numpy(make().hits(labels, embeddings))
    np.testing.assert_array_equal(received, votes.argmax(1) == labels)
    assert 0 < received.mean() < 1
    assert not numpy(make().hits(labels[:1], embeddings[:1])).any()


@all_losses
def test_embeddings_that_run_away_are_still_judged(name):
    """Distances of which exp(−d²) is nothing at all: the nearest other decides, and nobody is called perfect."""
    embeddings, labels, _ = material(24, 5, classes=3)
    embeddings = 1e6 * embeddings
    loss = LOSSES[name][0]()
    squares = ((embeddings[:, None].astype("float64") - embeddings[None]) ** 2).sum(-1) + np.diag(np.full(24, np.inf))
    losses, hits = numpy(loss.call(labels, embeddings)), numpy(loss.hits(labels, embeddings))
    assert losses.mean() > 0.1
    if name == "NCA":
        np.testing.assert_array_equal(hits, labels[squares.argmin(1)] == labels)
        own = np.where(labels[:, None] == labels, squares, np.inf).min(1)
        np.testing.assert_allclose(losses, (own - squares.min(1)) / 3.0, rtol=1e-3, atol=1e-3 * squares[0, 1])


@all_losses
def test_gradients_are_finite_with_duplicated_rows(name):
    """The first step of a linear map moves it, and to finite values, whatever coincides in the batch."""
    features, labels, _ = material(12, 6, classes=3)
    features[1], features[2:5] = features[0], features[5]
    for batch in (features, np.zeros_like(features), 1e3 * features):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, use_bias=False)])
        model.compile(keras.optimizers.SGD(1e-3), LOSSES[name][0]())
        before = numpy(model.layers[0].kernel).copy()
        assert np.isfinite(model.train_on_batch(batch, labels))
        after = numpy(model.layers[0].kernel)
        assert np.isfinite(after).all()
        assert np.array_equal(after, before) == (not batch.any())


def test_bad_arguments_of_losses_name_themselves():
    for make, said in (
        (lambda: layers.KNNLoss(0), "power=0"),
        (lambda: layers.KNNLoss(epsilon=0.0), "epsilon=0.0"),
        (lambda: layers.NCALoss(-1.0), "temperature=-1.0"),
        (lambda: layers.StudentNCALoss(0), "degrees=0"),
    ):
        with pytest.raises(ValueError, match=rf"Loss: .*{said}"):
            make()


@all_losses
def test_an_embedding_learns_to_be_classified_by_neighbours(name):
    """Digits in 4 dimensions: a trained map against the random one that it starts from, on images it has not seen."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0 - 0.3).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(4)])

    def accuracy():
        embedded = model.predict(images, verbose=0)
        head = filled(embedded[:1200], labels[:1200])
        return (numpy(head(embedded[1200:])).argmax(1) == labels[1200:]).mean()

    before = accuracy()
    model.compile(keras.optimizers.Adam(0.01), LOSSES[name][0]())
    model.fit(images[:1200], labels[:1200], batch_size=100, epochs=12, verbose=0)
    assert accuracy() > max(before + 0.1, 0.75), (before, accuracy())
