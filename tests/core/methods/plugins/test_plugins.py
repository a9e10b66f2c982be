"""Plug-ins: what they add to a step, to the state and to the configuration, and where they are refused."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from steps import fed, whole_step
from torch import Tensor, nn

from semiseg_cli.core.config.layers import Resolved, flatten, refuse_changes, resolve
from semiseg_cli.core.config.presets import gather
from semiseg_cli.core.config.toml import flat, to_toml
from semiseg_cli.core.errors import Interrupted, UsageError
from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.methods.base import Batch, Clock, Moment, StepOutput, Views
from semiseg_cli.core.methods.plugins import PLUGINS, load_plugin
from semiseg_cli.core.methods.plugins.base import Extended, PlugIn
from semiseg_cli.core.methods.plugins.pixel_distributions import inter_pixel_loss
from semiseg_cli.core.networks import MEAN, STD
from semiseg_cli.core.settings import doc, hints
from semiseg_cli.core.training.checkpoint import read
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.training.update import Update
from semiseg_cli.stages.train import resume, train

Make = Callable[..., Train]
Batches = Callable[..., dict[str, Tensor]]

# settings under which a plug-in acts on networks that know nothing, where its own do not
AWAKE = {"interpixel": {"region_tau": 0.0, "ramp": 0.0}, "masked": {"tau": 0.0, "patch": 8}}


FITTING = [
    (method, plugin)
    for method in METHODS
    for plugin in PLUGINS
    if load_plugin(plugin).acts_on in load_method(method).offers and plugin not in load_method(method).includes
]


def awake(method: str) -> dict[str, float]:
    """Settings under which pseudo-labels count although the network knows nothing."""
    return {"tau": 0.0} if "tau" in hints(load_method(method).Settings) else {}


def extended(train_module: Make, method: str, *plugins: str, **settings: Any) -> Train:
    base = train_module(method, **awake(method), **settings)
    classes = {name: load_plugin(name) for name in plugins}
    added = {name: cls(cls.Settings(**AWAKE.get(name, {})), base.method.build) for name, cls in classes.items()}
    return Train(Extended(base.method, added), seed=0, mean=MEAN, std=STD, views=base.view_settings).train()


def step(train: Train, batch: dict[str, Tensor], at: int = 9) -> StepOutput:
    """All passes of one micro-batch, with their gradients."""
    torch.manual_seed(at)
    return whole_step(train, fed(train, batch), Clock(at, 10))


def test_what_fits_what() -> None:
    methods = {method for method, _ in FITTING}
    assert {"meanteacher", "fixmatch", "unimatch"} <= methods
    assert "supervised" not in methods


@pytest.mark.parametrize(("method", "plugin"), FITTING)
def test_a_plug_in_adds_a_loss_and_changes_no_other(
    method: str, plugin: str, train_module: Make, host_batch: Batches
) -> None:
    plain = step(train_module(method, **awake(method)), host_batch())
    train = extended(train_module, method, plugin)
    out = step(train, host_batch())
    assert out.losses.keys() == {*plain.losses, plugin}
    assert all(torch.equal(out.losses[name], value) for name, value in plain.losses.items())
    assert out.losses[plugin].item() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in train.parameters() if p.requires_grad)


def test_several_are_added_in_their_order(train_module: Make, host_batch: Batches) -> None:
    out = step(extended(train_module, "fixmatch", "masked", "interpixel"), host_batch())
    assert list(out.losses)[-2:] == ["masked", "interpixel"]
    alone = step(extended(train_module, "fixmatch", "interpixel"), host_batch())
    assert torch.equal(out.losses["interpixel"], alone.losses["interpixel"])  # it does not see the other's view


@pytest.mark.parametrize("plugin", PLUGINS)
def test_nothing_is_added_during_a_warm_up(plugin: str, train_module: Make, host_batch: Batches) -> None:
    out = step(extended(train_module, "fixmatch", plugin, warmup=0.5), host_batch(), at=4)
    assert list(out.losses) == ["labeled"]


def test_interpixel_is_the_mean_over_strong_views(train_module: Make, host_batch: Batches) -> None:
    out = step(extended(train_module, "unimatch", "interpixel"), host_batch())
    strong = [term for term in out.terms if term.name.startswith("strong")]
    assert len(strong) == 2 < len(out.terms)
    losses = [
        inter_pixel_loss(t.pseudo.logits_BKHW, t.logits_BKHW, (t.pseudo.conf_BHW > 0) & t.pseudo.valid_BHW)
        for t in strong
    ]
    assert torch.equal(out.losses["interpixel"], torch.stack(losses).mean())


def test_interpixel_leaves_out_the_masked_view(train_module: Make, host_batch: Batches) -> None:
    out = step(extended(train_module, "maskmatch", "interpixel", patch=8), host_batch())
    assert [term.name for term in out.terms] == ["strong", "masked"]
    t = out.terms[0]
    region = (t.pseudo.conf_BHW > 0) & t.pseudo.valid_BHW
    assert torch.equal(out.losses["interpixel"], inter_pixel_loss(t.pseudo.logits_BKHW, t.logits_BKHW, region))


def test_mixed_images_have_their_teachers_logits_mixed(train_module: Make, host_batch: Batches) -> None:
    out = step(extended(train_module, "fixmatch", "interpixel"), host_batch())
    term = out.terms[0]
    assert out.weak is not None
    differs = (term.pseudo.logits_BKHW != out.weak.pseudo.logits_BKHW).any(1)
    assert torch.equal(term.pseudo.logits_BKHW.softmax(1).max(1).values, term.pseudo.conf_BHW)
    assert differs.any()
    other = out.weak.pseudo.logits_BKHW.flip(0)
    assert torch.equal(term.pseudo.logits_BKHW.permute(0, 2, 3, 1)[differs], other.permute(0, 2, 3, 1)[differs])


def test_the_weight_rises_like_a_gaussian(train_module: Make) -> None:
    build = train_module("fixmatch").method.build
    cls = load_plugin("interpixel")
    plugin: Any = cls(cls.Settings(weight=2.0, ramp=0.25), build)
    for at, missing in ((0, 1.0), (10, 0.6), (20, 0.2), (25, 0.0), (99, 0.0)):
        assert plugin.rising_weight(Clock(at, 100)) == pytest.approx(2 * math.exp(-5 * missing**2))
    at_once: Any = cls(cls.Settings(ramp=0.0), build)
    assert at_once.rising_weight(Clock(0, 100)) == 1.0


def test_the_masked_view_is_taught_the_labels_of_the_whole(train_module: Make, host_batch: Batches) -> None:
    out = step(extended(train_module, "meanteacher", "masked"), host_batch())
    term = out.terms[-1]
    assert (term.name, term.pseudo) == ("masked", out.weak and out.weak.pseudo)
    assert out.weak is not None
    hidden = (term.image_B3HW == 0).all(1)
    assert hidden.any()
    assert torch.equal(term.image_B3HW, out.weak.image_B3HW.masked_fill(hidden[:, None], 0))
    assert (term.kept_BHW[hidden] > 0).any()  # hidden pixels are taught too


def test_a_label_counts_above_tau_as_in_maskmatch(train_module: Make, host_batch: Batches) -> None:
    """A network that is certain, in float32: its confidence of 1 is not above a tau of 1."""
    cls = load_plugin("masked")
    base = train_module("meanteacher", tau=0.0)
    with torch.no_grad():
        base.method.teacher.net.decoder.classifier.bias.copy_(torch.tensor([99.0, 0, 0, 0]))
    method = Extended(base.method, {"masked": cls(cls.Settings(tau=1.0, patch=8), base.method.build)})
    out = step(Train(method, seed=0, mean=MEAN, std=STD).train(), host_batch())
    assert out.weak is not None
    assert (out.weak.pseudo.conf_BHW == 1).all()
    assert out.losses["masked"].item() == 0


def test_a_mean_teacher_with_masked_views_is_maskmatch_at_one_scale(
    train_module: Make, host_batch: Batches
) -> None:
    own = train_module("maskmatch", tau=0.0, alpha=0.99, scales=(1.0,), patch=8)
    base = train_module("meanteacher", tau=0.0, normaliser="image")
    cls = load_plugin("masked")
    other = Extended(base.method, {"masked": cls(cls.Settings(tau=0.0, patch=8), base.method.build)})
    train = Train(other, seed=0, mean=MEAN, std=STD, views=base.view_settings).train()
    one, two = step(own, host_batch()), step(train, host_batch())
    assert one.losses == two.losses


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_setting_of_a_plug_in_says_what_it_is(plugin: str) -> None:
    settings = load_plugin(plugin).Settings
    assert all(len(doc(settings, name)) > 10 for name in hints(settings))
    assert settings() == settings()


class Follower(PlugIn):
    """A network of its own with a buffer: what a later plug-in may bring."""

    acts_on = "weak"

    def __init__(self, settings: Any, build: Any) -> None:
        super().__init__(settings, build)
        self.net = build.segmenter(head_seed=7)
        self.teacher = build.teacher(self.net)

    def step(self, out: StepOutput, batch: Batch, views: Views) -> StepOutput:
        assert out.weak is not None
        return StepOutput({"follower": self.net(out.weak.image_B3HW).square().mean()})

    def after_step(self, moment: Moment) -> None:
        self.teacher.update(self.net, moment, 0.9)


def test_networks_of_a_plug_in_belong_to_the_state_and_the_optimiser(train_module: Make, host_batch: Batches) -> None:
    base = train_module("fixmatch", tau=0.0)
    method = Extended(base.method, {"follower": Follower(None, base.method.build)})
    train = Train(method, seed=0, mean=MEAN, std=STD).train()
    grouped = [id(p) for group in method.groups() for p in group.params]
    assert sorted(grouped) == sorted(id(p) for p in train.parameters() if p.requires_grad)
    assert any("follower.teacher" in key for key in train.state_dict())
    follower: Any = method.plugins["follower"]
    before = follower.teacher.net.decoder.classifier.weight.clone()
    step(train, host_batch())
    torch.optim.SGD([p for group in method.groups() for p in group.params], lr=0.1).step()
    method.after_step(Clock(3, 10))
    assert not torch.equal(before, follower.teacher.net.decoder.classifier.weight)
    assert method.deployed() is base.method.deployed()
    assert isinstance(method.deployed(), nn.Module)


def test_every_method_says_what_it_includes() -> None:
    for name in METHODS:
        assert load_method(name).includes <= set(PLUGINS)
        assert load_method(name).offers <= {"terms", "weak"}


# The configuration.


def resolved(**layer: Any) -> Resolved:
    return resolve([("here", {name.replace("__", "."): value for name, value in layer.items()})])


def test_a_section_exists_only_where_the_plug_in_is_added() -> None:
    plain = flatten(resolved(method__name="fixmatch").config)
    assert plain["method.add"] == ()
    assert not [name for name in plain if name.startswith(tuple(PLUGINS))]
    found = resolved(method__name="fixmatch", method__add=("masked",), masked__patch=16)
    values = flatten(found.config)
    assert (values["method.add"], values["masked.patch"], values["masked.ratio"]) == (("masked",), 16, 0.7)
    assert (found.origins["masked.patch"], found.origins["method.add"]) == ("here", "here")
    assert set(found.origins) == set(values)
    assert found.config.title == "fixmatch+masked"


def test_it_survives_a_file() -> None:
    config = resolved(method__add="masked,interpixel", interpixel__region_tau="0.5").config
    text = to_toml(flatten(config), {})
    assert 'add = ["masked", "interpixel"]' in text
    assert resolve([("file", flat(tomllib.loads(text)))]).config == config


@pytest.mark.parametrize(
    ("layer", "said", "fix"),
    [
        ({"method__add": "maskd"}, "no plug-in 'maskd'", "did you mean 'masked'"),
        ({"method__add": ("masked", "masked")}, "the plug-in 'masked' is added twice", "once"),
        ({"method__name": "supervised", "method__add": "masked"}, "supervised gives the plug-in 'masked'", "--m"),
        ({"method__name": "supervised", "method__add": "interpixel"}, "supervised gives the plug-in 'inter", "--m"),
        ({"method__name": "maskmatch", "method__add": "masked"}, "maskmatch has the loss of .* already", "without"),
        ({"masked__patch": 8}, "'masked.patch' is a setting of a plug-in that is not added", "--add masked"),
        ({"method__add": "masked", "masked__pach": 8}, "no setting 'masked.pach'", "masked.patch"),
        ({"method__add": "masked", "masked__patch": 400}, "masked.patch = 400 .* at most train.crop = 321", "--set"),
        ({"method__add": "masked", "masked__ratio": 1}, r"masked.ratio = 1.0 .* in \[0, 1\)", "--set"),
        ({"method__add": "masked", "masked__tau": 2}, r"masked.tau = 2.0 .* in \[0, 1\]", "--set"),
        ({"method__add": "interpixel", "interpixel__region_tau": -1}, r"region_tau = -1.0 .* in \[0, 1\]", "--set"),
        ({"method__add": "interpixel", "interpixel__temperature": 0}, r"interpixel.temperature", "--set"),
        ({"method__add": 3}, "method.add = 3", "another add in here"),
    ],
)
def test_what_cannot_be_is_refused(layer: dict[str, Any], said: str, fix: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        resolved(**layer)
    assert fix in caught.value.fix


def test_a_files_table_of_a_plug_in_counts_where_it_is_added(tmp_path: Path) -> None:
    (tmp_path / "semiseg.toml").write_text(
        "[masked]\npatch = 8\n[methods.fixmatch.masked]\nratio = 0.5\n", encoding="utf-8"
    )

    def found(**flags: Any) -> dict[str, Any]:
        layer = {name.replace("__", "."): value for name, value in flags.items()}
        return flatten(gather(layer, dataset=lambda name: ("park", "folder"), directory=tmp_path).config)

    assert "masked.patch" not in found()
    assert found(method__add=("masked",))["masked.patch"] == 8
    assert found(method__add=("masked",))["masked.ratio"] == 0.7
    assert found(method__add=("masked",), method__name="fixmatch")["masked.ratio"] == 0.5
    with pytest.raises(UsageError, match="not added"):
        found(masked__patch=4)


def test_a_resumed_run_keeps_its_plug_ins() -> None:
    config = resolved(method__add="masked").config
    refuse_changes(config, {"method.add": ("masked",), "masked.patch": "32"})
    for change in ({"method.add": ("interpixel",)}, {"masked.patch": 16}):
        with pytest.raises(UsageError, match="cannot change its settings"):
            refuse_changes(config, change)


def test_a_run_with_plug_ins_is_recorded_and_resumed(
    shapes_root: Path, tmp_path: Path, configured: Callable[..., Resolved], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {
        "method.add": ("interpixel", "masked"), "interpixel.region_tau": 0.1, "masked.patch": 8, "masked.tau": 0.1,
        "method.tau": 0.1, "train.steps": 4, "train.save_every": 2, "train.eval_every": 0,
    }  # fmt: skip
    what = configured("fixmatch", more)
    whole = train(what, data_root=shapes_root, runs_root=tmp_path, device="cpu")
    run = Path(whole["run"])
    assert run.name == "shapes-all-fixmatch+interpixel+masked-small-s0"
    assert whole["method"] == "fixmatch+interpixel+masked"
    rows = (run / "metrics.jsonl").read_text(encoding="utf-8")
    assert '"loss_interpixel"' in rows
    assert '"loss_masked"' in rows

    def stop_after(step: Callable[..., None]) -> Callable[..., None]:
        calls = iter(range(3))

        def limited(*args: Any, **named: Any) -> None:
            if next(calls) == 2:
                raise KeyboardInterrupt
            step(*args, **named)

        return limited

    with monkeypatch.context() as patched:
        patched.setattr(Update, "learn", stop_after(Update.learn))
        with pytest.raises(Interrupted):
            train(what, data_root=shapes_root, runs_root=tmp_path, out=tmp_path / "cut", device="cpu")
    resume(tmp_path / "cut", data_root=shapes_root, device="cpu")
    (through, _), (resumed, _) = (read(folder / "last.safetensors") for folder in (run, tmp_path / "cut"))
    assert through.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in through.items())


