"""Where stages or released models run on somebody else's machines: SageMaker, Lambda."""
