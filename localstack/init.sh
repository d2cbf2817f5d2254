#!/bin/sh
# Creates what the infrastructure creates on AWS: the queue, its dead-letter queue, and the bucket. Can be repeated.
#
# LocalStack runs it once it is ready (/etc/localstack/init/ready.d).
set -eu

queue=cuponera-jobs
bucket=cuponera-files
region=${AWS_DEFAULT_REGION:-us-east-1}
day=86400

# Dead letters are kept for the maximum time, because an operator has to process them.
awslocal sqs create-queue --queue-name "$queue-dead" --attributes "MessageRetentionPeriod=$((14 * day))" >/dev/null

# Attempts are counted in Postgres, so the queue may deliver a message many times before it counts as dead.
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
echo "cuponera: the queues and the bucket exist"
