# frozen_string_literal: true

# The task for Sidekiq. `sidekiq -r ./sidekiq_app.rb` works; `ruby sidekiq_app.rb 10` fills the queue.

require "redis"
require "sidekiq"

COUNTED = "counted"
PORTION = 200

Sidekiq.configure_server { |config| config.redis = { url: ENV.fetch("BENCHMARK_QUEUE_URL") } }
Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch("BENCHMARK_QUEUE_URL") } }
Sidekiq.logger.level = Logger::WARN

# Sidekiq has no results, so the last task sets a key.
class Counted
  include Sidekiq::Worker

  LOCK = Mutex.new
  @@counted = 0

  def perform
    all = Integer(ENV.fetch("BENCHMARK_COUNT"))
    last = LOCK.synchronize { (@@counted += 1) == all }
    Redis.new(url: ENV.fetch("BENCHMARK_RESULTS_URL")).set(COUNTED, 1) if last
  end
end

if $PROGRAM_NAME == __FILE__
  Integer(ARGV.fetch(0)).times.each_slice(PORTION) do |portion|
    Sidekiq::Client.push_bulk("class" => Counted, "args" => portion.map { [] })
  end
end
