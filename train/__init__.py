"""LeRobot dataset adapters and the two-stage trainer."""

if __name__ != "vp_agent.train":  # the top-level folder is installed as vp_agent.train
    raise ImportError("import vp_agent.train, not train")
