import pytest

from modelspace.errors import ModelspaceError
from modelspace.search import Parameter, Span, parameters_of

BOTH = [
    ((1e-4, 1e-1), "1e-4:1e-1", Span(1e-4, 1e-1, log=True)),
    ((0.5, 0.99, "linear"), "0.5:0.99:linear", Span(0.5, 0.99)),
    ((0.0, 0.5), "0:0.5", Span(0.0, 0.5)),
    ((8, 128), "8:128", Span(8, 128, log=True, whole=True)),
    ([16, 8, 32], "16,8,32", (8, 16, 32)),
    (["sgd", "adam"], "sgd,adam", ("sgd", "adam")),
    ([True, False], "true,False", (True, False)),
    ([(16, 32), (64,)], "[16,32],[64]", ((16, 32), (64,))),
    ([None, "cosine"], "None,cosine", (None, "cosine")),
    (0.25, "0.25", (0.25,)),
]


@pytest.mark.parametrize(("given", "text", "read"), BOTH, ids=[text for _, text, _ in BOTH])
def test_python_and_text_say_the_same(given, text, read):
    for written in (given, text):
        (parameter,) = parameters_of({"x": written})
        assert parameter == Parameter("x", read)
        whole = [*vars(read).values()] if isinstance(read, Span) else read
        assert [
            type(v) for v in (vars(parameter.values).values() if isinstance(read, Span) else parameter.values)
        ] == [type(v) for v in whole] or written == "0:0.5"


def test_choices_with_what_depends_on_them_are_written_in_two_ways():
    nested = {
        "optimizer": {"adam": {}, "sgd": {"momentum": (0.5, 0.9), "nag": {True: {"lr": [0.1]}, False: {}}}}
    }
    flat = {
        "momentum@optimizer=sgd": "0.5:0.9",
        "nag@optimizer=sgd": "True,False",
        "lr@nag=True": "0.1,"[:-1],
    }
    found = parameters_of(nested)
    assert {p.key for p in found} == {
        "optimizer",
        "momentum@optimizer=sgd",
        "nag@optimizer=sgd",
        "lr@nag=True",
    }
    assert {*found} == {*parameters_of({**flat, "optimizer": "adam,sgd"})}
    by_name = {p.name: p for p in found}
    assert [by_name[n].active({"optimizer": "sgd", "nag": False}) for n in ("momentum", "nag", "lr")] == [
        1,
        1,
        0,
    ]
    assert not by_name["lr"].active({"optimizer": "adam"})


def test_a_condition_may_hold_for_all():
    assert parameters_of({"label_noise": 0.2}) == [Parameter("label_noise", (0.2,))]


def test_a_name_may_depend_on_two_values_of_one():
    found = parameters_of({"optimizer": {"sgd": {"lr": (1e-2, 1.0)}, "adam": {"lr": (1e-4, 1e-2)}}})
    assert [p.key for p in found] == ["optimizer", "lr@optimizer=sgd", "lr@optimizer=adam"]


REFUSED = [
    ({"lr": (1e-1, 1e-4)}, "lr: a range is .*received \\(0.1, 0.0001\\).*The first is less"),
    ({"lr": "1e-4:1e-1:12"}, "no third number"),
    ({"lr": (1e-4,)}, "Choices are a list"),
    ({"x": (0.0, 1.0, "log")}, "positive ends: write 0:1:linear"),
    ({"lr": []}, "lr has no values"),
    ({"lr": [0.1, 0.1]}, "lr has 0.1 twice"),
    ({"lr": "0.1,,0.2"}, "a value between commas is missing"),
    ({"lr": (-1.0, 1.0)}, "learning rate lr must be .*; received -1"),
    ({"weight_decay": [0.0, -0.5]}, "weight_decay must be .*; received -0.5"),
    ({"seed": [1, 2]}, "seed is no choice"),
    ({"label_noise": [0.0, 0.1]}, "label_noise is no choice"),
    ({"momentum@optimizer": [0.5]}, "NAME@OTHER=VALUE"),
    ({"momentum@optimizer=sgd": [0.5]}, "momentum: what depends on what, and optimizer is not chosen"),
    (
        {"optimizer": ["adam"], "momentum@optimizer=sgd": [0.5]},
        "depends on optimizer=sgd, and the choices are adam",
    ),
    ({"lr": [0.1], "optimizer": {"adam": {"lr": [0.2]}}}, "lr is given twice"),
    ({"a@b=1": [1, 2], "b@a=1": [1, 2]}, r"a, b: what depends on what\\?"),
]


@pytest.mark.parametrize(("over", "said"), REFUSED, ids=[str(over) for over, _ in REFUSED])
def test_what_can_t_be_read_is_said(over, said):
    with pytest.raises(ModelspaceError, match=said):
        parameters_of(over)
