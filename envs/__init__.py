if __name__ != "vp_agent.envs":  # the folder lies at the top of the tree but is installed as vp_agent.envs
    raise ImportError("import vp_agent.envs, not envs (run from the repository root or pip install -e .)")


def register() -> None:
    """Registers every environment id with Gymnasium; loads no simulator."""
