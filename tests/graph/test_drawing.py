"""Drawings: what stands in them, that any name is safe in them, and what happens where nothing draws."""

import re
import shutil
import sys
import sysconfig
import xml.etree.ElementTree as xml

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import graph
from minigrad.autograd.errors import GradientError
from minigrad.graph.rendering import Drawing

# --- a reader of DOT, small and strict ---

_TOKEN = re.compile(r'\s+|->|[{}\[\];=]|"(?:[^"\\]|\\.)*"|[\w.+-]+', re.DOTALL)


def tokens(source):
    """The tokens of a DOT text; ValueError for anything that is none, or an HTML string that does not close."""
    position, found = 0, []
    while position < len(source):
        if source[position] == "<":
            start, depth = position, 0
            while True:
                if position == len(source):
                    raise ValueError(f"an HTML string that does not close: {source[start : start + 40]!r}")
                depth += {"<": 1, ">": -1}.get(source[position], 0)
                position += 1
                if not depth:
                    break
            found.append(source[start:position])
            continue
        match = _TOKEN.match(source, position)
        if not match:
            raise ValueError(f"not DOT: {source[position : position + 40]!r}")
        if match[0].strip():
            found.append(match[0])
        position = match.end()
    return found


def parse(drawing):
    """(nodes, edges): attributes by node name, and (start, end, attributes) in order."""
    stream = tokens(drawing.source)
    assert stream[:2] == ["digraph", "{"] and stream[-1] == "}"
    nodes, edges, i = {}, [], 2
    while i < len(stream) - 1:
        if stream[i + 1] == "=":  # an attribute of the graph
            nodes.setdefault("graph", {})[stream[i]] = stream[i + 2]
            i += 3
            continue
        name, end = stream[i], None
        i += 1
        if stream[i] == "->":
            end, i = stream[i + 1], i + 2
        attributes = {}
        if stream[i] == "[":
            close = stream.index("]", i)
            assert (close - i - 1) % 3 == 0 and set(stream[i + 2 : close : 3]) <= {"="}
            attributes = dict(zip(stream[i + 1 : close : 3], stream[i + 3 : close : 3], strict=True))
            i = close + 1
        if end is not None:
            edges.append((name, end, attributes))
        elif name not in ("node", "edge", "graph"):
            assert name not in nodes, f"{name} appears twice"
            nodes[name] = attributes
        else:
            nodes.setdefault(name, {}).update(attributes)
    return nodes, edges


def rows(attributes):
    """The lines of text in a node's label, as a reader of XML sees them."""
    label = attributes["label"]
    assert label.startswith("<") and label.endswith(">")
    tree = xml.fromstring(f"<label>{label[1:-1]}</label>")
    for line_break in tree.iter("BR"):
        line_break.text = "\n"
    return "".join(tree.itertext()).replace("\\\\", "\\").split("\n")


def kinds(drawing):
    """First line of each node's label, by kind: 'n' ops and leaves, 'c' constants, 'out' outputs."""
    nodes, _ = parse(drawing)
    found = {"n": [], "c": [], "out": []}
    for name, attributes in nodes.items():
        if match := re.fullmatch(r"(n|c|out)\d+", name):
            found[match[1]].append(rows(attributes)[0])
    return found


def named(value, name, **options):
    x = mg.tensor(value, requires_grad=True, **options)
    x.name = name
    return x


def example():
    x, y = named([1.0, 2.0], "x"), named([3.0, 4.0], "y")
    return x, y, (x * y + mg.sin(x)).sum()


# --- structure ---


def test_every_op_and_every_leaf_stands_in_the_drawing_once():
    _, _, z = example()
    drawing = graph.draw(z)
    assert isinstance(drawing, Drawing)
    assert kinds(drawing) == {"n": ["x", "y", "*", "sin", "+", "sum"], "c": [], "out": ["output"]}


def test_edges_lead_from_arguments_to_ops_and_carry_the_shape_of_what_was_computed():
    _, _, z = example()
    nodes, edges = parse(graph.draw(z))
    title = {name: rows(a)[0] for name, a in nodes.items() if "label" in a and name != "graph"}
    found = [(title[start], title[end], a.get("label", "").strip('" ')) for start, end, a in edges]
    assert found == [
        ("x", "*", ""),
        ("y", "*", ""),
        ("x", "sin", ""),
        ("*", "+", "(2,)"),
        ("sin", "+", "(2,)"),
        ("+", "sum", "(2,)"),
        ("sum", "output", ""),
    ]


def test_the_same_computation_gives_the_same_text():
    assert graph.draw(example()[2]).source == graph.draw(example()[2]).source


def test_an_argument_used_twice_has_two_edges():
    x = named(3.0, "x")
    _, edges = parse(graph.draw(x * x))
    assert [(start, end) for start, end, _ in edges] == [("n0", "n1"), ("n0", "n1"), ("n1", "out0")]


def test_where_order_matters_the_edges_say_which_argument_they_are():
    a, b = named(1.0, "a"), named(2.0, "b")
    _, edges = parse(graph.draw(b - a))
    assert [(start, attributes.get("headlabel")) for start, _, attributes in edges] == [
        ("n1", "a"),
        ("n0", "b"),
        ("n2", None),
    ]


def test_leaves_show_name_shape_and_dtype():
    x = named(np.zeros((2, 3)), "x")
    nodes, _ = parse(graph.draw(x.sum()))
    assert rows(nodes["n0"]) == ["x", "(2, 3) float64"]


def test_parameters_have_their_names_and_a_colour_of_their_own():
    w, x = mg.ones(2, requires_grad=True), named([1.0, 2.0], "x")
    nodes, _ = parse(graph.draw((w * x).sum(), params={"layer.weight": w}))
    assert rows(nodes["n0"])[0] == "layer.weight" and rows(nodes["n1"])[0] == "x"
    assert nodes["n0"]["fillcolor"] != nodes["n1"]["fillcolor"]


def test_params_may_be_anything_with_named_parameters():
    class Model:
        def named_parameters(self):
            yield "w", w

    w = mg.ones(2, requires_grad=True)
    assert kinds(graph.draw(w.sum(), params=Model()))["n"] == ["w", "sum"]


def test_constants_are_shown_with_what_the_record_knows_of_them():
    x = named([1.0, 2.0], "x")
    assert kinds(graph.draw(x * 2.5))["c"] == ["2.5"]
    assert kinds(graph.draw(x + 2.5))["c"] == ["const"]
    images = mg.ones(4, 2)
    weight = named(np.ones((3, 2), np.float32), "w")
    assert kinds(graph.draw(mg.linear(images, weight)))["c"] == ["x"]  # and no box for the bias that is not there


def test_an_array_used_by_two_ops_is_one_constant():
    x, c = named([1.0, 2.0], "x"), mg.ones(2)
    assert kinds(graph.draw(x * c + mg.sin(x) * c))["c"] == ["const"]


def test_several_outputs_share_one_drawing():
    x, _, z = example()
    found = kinds(graph.draw([z, x * 2.0]))
    assert found["out"] == ["output", "output"] and found["n"].count("x") == 1


def test_an_output_may_be_a_leaf():
    assert kinds(graph.draw(named(1.0, "x"))) == {"n": ["x"], "c": [], "out": ["x"]}


def test_named_results_show_their_name():
    x = named([1.0, 2.0], "x")
    h = mg.sin(x)
    h.name = "hidden"
    loss = h.sum()
    loss.name = "loss"
    nodes, _ = parse(graph.draw(loss))
    assert rows(nodes["n1"]) == ["sin", "hidden"] and rows(nodes["out0"])[0] == "loss"


def test_after_backward_the_drawing_has_the_same_ops_and_leaves():
    _, _, z = example()
    before = kinds(graph.draw(z))
    z.backward()
    assert kinds(graph.draw(z)) == before


def test_values_are_shown_where_the_record_has_them_and_gradients_after_backward():
    x, y, z = example()
    nodes, _ = parse(graph.draw(z, values=True))
    assert rows(nodes["n0"])[2] == "[1, 2]" and rows(nodes["out0"])[2].startswith("12.75")
    z.backward()
    nodes, _ = parse(graph.draw(z, values=True))
    assert rows(nodes["n1"])[-1] == "grad [1, 2]"
    assert x.grad is not None and y.grad is not None


@pytest.mark.parametrize(
    "value, text",
    [(2.5, "2.5"), ([1, 2], "[1, 2]"), (np.full(9, 3.0), "all 3"), (np.arange(9.0), "from 0 to 8"), ([], "empty")],
)
def test_values_are_short(value, text):
    assert graph.labels.value_text(np.asarray(value)) == text


def test_derivatives_stand_in_the_ops_on_request():
    x = named(1.0, "x")
    nodes, _ = parse(graph.draw(mg.exp(x), derivatives=True))
    assert rows(nodes["n1"]) == ["exp", "∂ exp(x)"]


def test_gradients_that_were_recorded_can_be_drawn_too():
    x, _, z = example()
    (gradient,) = mg.autograd.grad(z, x, create_graph=True)
    assert "cos" in kinds(graph.draw(gradient))["n"]


def test_every_op_of_the_table_has_a_symbol_that_can_be_drawn():
    from minigrad.autograd.primitive import OPS
    from minigrad.graph.labels import lines

    for op in OPS.values():
        assert rows({"label": lines((op.symbol, "black"), (op.local or "", "black"))})[0] == op.symbol


# --- large graphs ---


def chain(length):
    x = named(1.0, "x")
    y = x
    for _ in range(length):
        y = y * 1.0001
    return y


def test_a_chain_of_5000_ops_is_drawn_whole_if_asked_for():
    nodes, edges = parse(graph.draw(chain(5000), max_nodes=6000))
    assert sum(bool(re.fullmatch(r"n\d+", name)) for name in nodes) == 5001
    assert len(edges) == 5000 + 5000 + 1


def test_of_a_large_graph_the_part_by_the_output_is_drawn_and_a_box_says_how_to_see_the_rest():
    nodes, edges = parse(graph.draw(chain(5000), max_nodes=10))
    assert rows(nodes["cut"]) == ["4,991 more", "max_nodes=5001 shows all"]
    assert ("cut", "n0") in [(start, end) for start, end, _ in edges]
    assert rows(nodes["n9"])[0] == "*" and "n10" not in nodes


def test_the_leaves_that_the_shown_ops_read_are_shown():
    w = named(2.0, "w")
    y = named(1.0, "x")
    for _ in range(100):
        y = y * w
    assert kinds(graph.draw(y, max_nodes=10))["n"][0] == "w"


# --- names ---


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_name_is_safe(name, title):
    x = named(1.0, name)
    nodes, _ = parse(graph.draw(mg.exp(x), name=title))
    readable = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in name)
    assert rows(nodes["n0"])[:-1] == (readable or "leaf").split("\n")


@pytest.mark.parametrize("name", ['a"b', "{x|y}", "<b>", "a\\", "\\N", "&amp;", "é∂日本", "]; n1 [label=gotcha"])
def test_names_with_special_signs_are_read_back_as_they_were(name):
    nodes, _ = parse(graph.draw(mg.exp(named(1.0, name))))
    assert rows(nodes["n0"])[0] == name


def test_a_very_long_name_is_cut():
    nodes, _ = parse(graph.draw(mg.exp(named(1.0, "x" * 500))))
    assert len(rows(nodes["n0"])[0]) == 60


# --- pictures ---


@pytest.fixture
def nothing_draws(monkeypatch, tmp_path):
    """A machine without `dot` and without graphviz-pure."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("minigrad.graph.rendering.sysconfig.get_path", lambda name: str(tmp_path))


def test_text_can_be_saved_where_nothing_draws(nothing_draws, tmp_path):
    _, _, z = example()
    path = graph.save(z, tmp_path / "z.dot", name="example")
    assert path.read_text(encoding="utf-8") == graph.draw(z, name="example").source


@pytest.mark.parametrize("picture", ["z.svg", "z.png"])
def test_a_picture_where_nothing_draws_says_what_to_install(nothing_draws, tmp_path, picture):
    with pytest.raises(graph.DrawingError, match=r'pip install "minigrad\[viz\]"'):
        graph.save(example()[2], tmp_path / picture)
    assert not (tmp_path / picture).exists()


def test_a_notebook_where_nothing_draws_shows_the_text_and_what_to_install(nothing_draws):
    drawing = graph.draw(example()[2])
    assert drawing._repr_svg_() is None
    shown = drawing._repr_mimebundle_()
    assert set(shown) == {"text/plain"}
    assert "minigrad[viz]" in shown["text/plain"] and drawing.source in shown["text/plain"]


def fake_program(folder, name):
    """A program that writes an SVG saying who drew it and with what options."""
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.stdin.read()\nprint('<svg>', {name!r}, *sys.argv[1:], '</svg>')\n"
    )
    path.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in program is a script")
def test_graphviz_pure_draws_where_there_is_no_dot(nothing_draws, tmp_path):
    fake_program(tmp_path, "graphviz-pure")
    drawing = graph.draw(example()[2])
    assert drawing._repr_svg_() == "<svg> graphviz-pure -Kdot -Tsvg </svg>\n"
    assert drawing._repr_mimebundle_()["image/svg+xml"].startswith("<svg>")
    rendered = drawing.render(tmp_path / "z.gv", format="svg")
    assert rendered == str(tmp_path / "z.gv.svg") and (tmp_path / "z.gv").exists()
    assert graph.save(drawing, tmp_path / "z.png").read_bytes().startswith(b"<svg> graphviz-pure -Kdot -Tpng")


def test_whatever_draws_here_draws_the_hardest_names(tmp_path):
    x = named([1.0], 'a"b\\N {x|y} <b>&amp;\n\x00é')
    try:
        picture = graph.draw(mg.exp(x), name='<i>\\G "').pipe("svg", encoding="utf-8")
    except graph.DrawingError as error:
        pytest.skip(str(error))
    text = "".join(xml.fromstring(picture.partition("<svg")[1] + picture.partition("<svg")[2]).itertext())
    assert 'a"b\\N {x|y} <b>&amp;' in text.replace("\xa0", " ") and "\\x00é" in text


# --- what is refused ---


def test_save_names_the_suffixes_it_knows(tmp_path):
    with pytest.raises(ValueError, match=r"'\.gif'; expected one of \.dot, \.gv, \.svg"):
        graph.save(example()[2], tmp_path / "z.gif")


def test_a_tensor_without_a_record_is_refused_with_what_to_do():
    with pytest.raises(GradientError, match="requires_grad=True"):
        graph.draw(mg.ones(3) * 2)
    with mg.no_grad(), pytest.raises(GradientError, match=r"outside of no_grad"):
        graph.draw(named(1.0, "x") * 2)


@pytest.mark.parametrize("wrong", [np.ones(3), 1.0, None, "x"])
def test_what_is_not_a_tensor_is_refused(wrong):
    with pytest.raises(TypeError, match="expected a Tensor or a list of Tensors"):
        graph.draw(wrong)


def test_a_function_given_for_its_result_is_told_apart():
    with pytest.raises(TypeError, match=r"draw\(model\(x\)\)"):
        graph.draw(lambda x: x)


def test_wrong_options_are_refused():
    _, _, z = example()
    for wrong in ({"direction": "up"}, {"max_nodes": 0}, {"params": 3}):
        with pytest.raises((ValueError, TypeError), match=r"expected"):
            graph.draw(z, **wrong)
    with pytest.raises(ValueError, match="empty list"):
        graph.draw([])
    with pytest.raises(TypeError, match="finished drawing"):
        graph.save(graph.draw(z), "z.dot", values=True)


@pytest.mark.parametrize(
    "text", ["a\x00b", "\a", "\x1b[31m", "\ud800", "\udcff", "a\ud83d\ude00", "\uffff", "\ufffe", "\x85\n\t"]
)
@pytest.mark.parametrize("where", ["title", "parameter", "name"])
def test_characters_that_no_picture_can_hold_are_shown_as_escapes(where, text, tmp_path):
    x = mg.ones(2, requires_grad=True)
    y = mg.sin(x) * 2
    if where == "name":
        x.name = y.name = text
    drawing = graph.draw(
        y, name=text if where == "title" else None, params={text: x} if where == "parameter" else None, values=True
    )
    source = drawing.save_as(tmp_path / "g.dot").read_text(encoding="utf-8")
    parse(drawing)
    assert all(c.isprintable() or c in "\n\t" for c in source)
    if shutil.which("dot") or shutil.which("graphviz-pure", path=sysconfig.get_path("scripts")):
        xml.fromstring(drawing.pipe("svg"))
