"""What Lambda calls: a new picture in the inbox gets its result, a new delivery one request to learn from it."""

import os
from pathlib import Path

import boto3
from botocore.config import Config

from castline.cloud.lambda_bucket import Bucket
from castline.cloud.lambda_handler import Handler, Model

# Throttled by S3, or without an answer, a request is sent again twice; then the message comes again later.
retries = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=3, read_timeout=20)
bucket = Bucket(boto3.client("s3", config=retries), os.environ["CASTLINE_BUCKET"], os.environ["CASTLINE_ACCOUNT"])
handle = Handler(bucket, Model(Path(__file__).with_name("model")))
