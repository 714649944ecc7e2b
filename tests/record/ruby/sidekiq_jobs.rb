# frozen_string_literal: true

# The jobs and the settings of Sidekiq's producer and workers, for every version from 6.4 on.
require "sidekiq"

# Jobs say what befalls them in a file: Redis is only what gets recorded.
def tell(*words)
  File.open(ENV.fetch("JOB_LOG"), "a") { |log| log.syswrite("#{words.join("\t")}\n") }
end

class Quick
  include Sidekiq::Job
  sidekiq_options retry: false

  def perform(queue, _payload = "")
    tell("start", queue, jid)
    tell("done", queue, jid)
  end
end

# Stays in flight until the file GATE is there.
class Hold
  include Sidekiq::Job
  sidekiq_options retry: false

  def perform(queue)
    tell("start", queue, jid)
    sleep 0.05 until File.exist?(ENV.fetch("GATE"))
    tell("done", queue, jid)
  end
end

class FailOnce
  include Sidekiq::Job
  sidekiq_options retry: 3
  sidekiq_retry_in { 3600 }

  def perform(queue)
    tell("start", queue, jid)
    tell("retry", queue, jid)
    raise "failed on purpose"
  end
end

class FailForGood
  include Sidekiq::Job
  sidekiq_options retry: 0

  def perform(queue)
    tell("start", queue, jid)
    tell("dead", queue, jid)
    raise "failed on purpose"
  end
end

# Debian pairs Sidekiq 6.4 with a newer redis gem, which warns at every command.
Redis.silence_deprecations = true if defined?(Redis) && Redis.respond_to?(:silence_deprecations=)
redis = { url: ENV.fetch("REDIS_URL") }
Sidekiq.configure_client do |config|
  config.redis = redis
  config.logger.level = Logger::WARN
end
Sidekiq.configure_server do |config|
  config.redis = redis
  # One look at the scheduled jobs a few seconds after the start, and then none while a state is recorded.
  options = config.respond_to?(:options) ? config.options : config
  options[:poll_interval_average] = 3600
end
