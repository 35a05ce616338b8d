"""Clusters that are driven by their command line, and what a class for another one is made of (docs/backends.md)."""

from sf_runner.backends.cluster.answers import AnswerError, ClusterJob, json_id, json_jobs
from sf_runner.backends.cluster.api import Cluster, SubmitRequest

__all__ = ["AnswerError", "Cluster", "ClusterJob", "SubmitRequest", "json_id", "json_jobs"]
