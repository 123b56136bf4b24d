import torch

from modelspace.engine.flat import flat


def swapped(pair, named, factor):
    return {"second": pair[1] * factor, "first": (pair[0], named["x"])}


def test_a_function_by_its_tensors_and_back():
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    given = flat(swapped, ((one, two), {"x": three}, 2.0))
    assert [len(tensor) for tensor in given.tensors] == [1, 2, 3]
    found = given.function(5 * one, 6 * two, 7 * three)
    assert [each.tolist() for each in found] == [[12.0, 12.0], [5.0], [7.0, 7.0, 7.0]]
    back = given.nested(given.function)((5 * one, 6 * two), {"x": 7 * three}, 2.0)
    assert back["second"].tolist() == [12.0, 12.0]
    assert torch.equal(back["first"][1], 7 * three)
