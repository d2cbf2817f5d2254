#!/bin/sh
# Makes what the infrastructure makes on AWS: the queue and its dead-letter queue, and the bucket. Safe to run again.
#
# LocalStack runs it once it is ready (/etc/localstack/init/ready.d).
set -eu

queue=cuponera-jobs
bucket=cuponera-files
region=${AWS_DEFAULT_REGION:-us-east-1}
day=86400

# Letters are kept as long as can be: somebody has to look.
awslocal sqs create-queue --queue-name "$queue-dead" --attributes "MessageRetentionPeriod=$((14 * day))" >/dev/null

# Attempts are counted in Postgres, so a message may come back many times before the queue gives up on it.
cat >/tmp/queue.json <<END
{
  "VisibilityTimeout": "30",
  "MessageRetentionPeriod": "$((4 * day))",
  "ReceiveMessageWaitTimeSeconds": "20",
  "RedrivePolicy": "{\"deadLetterTargetArn\":\"arn:aws:sqs:$region:000000000000:$queue-dead\",\"maxReceiveCount\":1000}"
}
END
awslocal sqs create-queue --queue-name "$queue" --attributes file:///tmp/queue.json >/dev/null

awslocal s3api head-bucket --bucket "$bucket" >/dev/null 2>&1 || awslocal s3 mb "s3://$bucket" >/dev/null
echo "cuponera: the queues and the bucket are there"
