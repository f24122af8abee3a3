if __name__ != "vp_agent.train":  # the folder lies at the top of the tree but is installed as vp_agent.train
    raise ImportError("import vp_agent.train, not train (run from the repository root or pip install -e .)")
