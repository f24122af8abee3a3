"""Small Gymnasium wrappers, one job each."""

if __name__ != "vp_agent.wrappers":  # the top-level folder is installed as vp_agent.wrappers
    raise ImportError("import vp_agent.wrappers, not wrappers")
