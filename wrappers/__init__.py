if __name__ != "vp_agent.wrappers":  # the folder lies at the top of the tree but is installed as vp_agent.wrappers
    raise ImportError("import vp_agent.wrappers, not wrappers (run from the repository root or pip install -e .)")
