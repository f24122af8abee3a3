"""What actions mean: read from the controller's settings, refused where a policy cannot use it."""

import pytest

from vp_agent.errors import DatasetError
from vp_agent.train.action_meaning import (
    OURS,
    action_names,
    read_controller,
    settle_action,
)
from vp_agent.train.notes import ACTION_KINDS, ARM


def arm(name: str = "OSC_POSE", **said: object) -> dict[str, object]:
    return {"type": name, **said}


def basic(part: dict[str, object], name: str = "BASIC") -> dict[str, object]:
    return {"type": name, "body_parts": {"right": part, "base": arm("JOINT_VELOCITY")}}


@pytest.mark.parametrize(
    ("configs", "kind"),
    [
        (arm(), "delta_pose"),
        (arm(control_delta=True, input_type=None), "delta_pose"),
        (arm(control_delta=False), "absolute_pose"),
        (arm("IK_POSE"), "delta_pose"),
        (arm("OSC_POSITION"), "delta_position"),
        (arm("OSC_POSITION", control_delta=False), "absolute_position"),
        (arm("JOINT_VELOCITY"), "joint_velocity"),
        (arm("JOINT_TORQUE"), "joint_torque"),
        (arm("JOINT_POSITION"), "delta_joints"),
        (basic(arm("JOINT_POSITION", input_type="absolute")), "absolute_joints"),
        (basic(arm(input_type="delta")), "delta_pose"),
        (basic(arm(input_type="absolute"), "HYBRID_MOBILE_BASE"), "absolute_pose"),
        ({"type": "BASIC", "body_parts": {"arms": {"right": arm(input_type="absolute")}}},
         "absolute_pose"),
        ({"body_parts_controller_configs": {"left": arm()}}, "delta_pose"),
        ([arm(control_delta=False)], "absolute_pose"),
        ("OSC_POSE", "delta_pose"),
    ],
)  # fmt: skip
def test_controllers_of_old_and_new_robosuite_say_what_actions_are(configs, kind):
    assert read_controller(configs, place="file")["kind"] == kind
    assert kind in ACTION_KINDS


@pytest.mark.parametrize("configs", [None, {}, []])
def test_no_controller_says_nothing(configs):
    assert read_controller(configs, place="file") == {}


@pytest.mark.parametrize(
    "configs",
    [
        arm("OSC_POS"),
        arm(control_delta="no"),
        arm(control_delta=False, input_type="delta"),
        arm(input_type="relative"),
        arm(output_max="much"),
        arm(output_max=[0.05, float("nan")]),
        {"kp": 150},
        3,
        [arm(), arm("JOINT_VELOCITY")],
        basic(arm(), "WHOLE_BODY_IK"),
        {"type": "BASIC", "body_parts": {"torso": arm()}},
        {"type": "BASIC", "body_parts": {"right": arm(), "left": arm("JOINT_TORQUE")}},
        {"type": "BASIC", "body_parts": 3},
    ],
)
def test_settings_that_cannot_be_read_are_refused_by_name(configs):
    with pytest.raises(DatasetError, match="file: controller_configs"):
        read_controller(configs, place="file")


def test_the_user_says_what_a_file_does_not():
    assert settle_action(None, "joint_velocity", place="file") == {"kind": "joint_velocity"}
    odd = basic(arm(), "WHOLE_BODY_IK")
    assert settle_action(odd, "delta_pose", place="file") == {"kind": "delta_pose"}
    with pytest.raises(DatasetError, match="takes delta_pose, --action-kind says joint_torque"):
        settle_action(arm(), "joint_torque", place="file")


def test_the_scale_is_kept():
    said = arm(output_max=[0.05, 0.05, 0.05, 0.5, 0.5, 0.5], control_delta=True)
    assert read_controller(said, place="file") == OURS


def test_numbers_of_another_meaning_have_other_names():
    assert action_names("delta_pose", width=7) == action_names("", width=7) == ARM
    for kind in ACTION_KINDS[1:]:
        names = action_names(kind, width=7)
        assert len(names) == 7
        assert names[-1] == "gripper"
        assert names != ARM
