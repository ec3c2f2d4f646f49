"""Machines of AWS that work for a project: jobs on SageMaker, functions on Lambda."""
