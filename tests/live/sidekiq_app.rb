# Sidekiq: the same course as common.py. `sidekiq -r THIS_FILE` is the worker. A job is gone from Redis when a worker takes
# it; a process tells what it runs every few seconds only.
require 'json'
require 'sidekiq'

BACKLOG = 40
Sidekiq.configure_server { |config| config.redis = { url: ENV['REDIS_URL'] } }
Sidekiq.configure_client { |config| config.redis = { url: ENV['REDIS_URL'] } }

def log(event, job, more = {})
  line = JSON.generate({ t: Time.now.to_f, event: event, job: job }.merge(more)) + "\n"
  File.open(ENV['LIVE_LOG'], 'a') { |file| file.syswrite(line) }
end

class Run
  include Sidekiq::Worker
  sidekiq_options queue: 'live', retry: 0, dead: false

  def perform(job)
    log('start', job)
    sleep(0.02 + job * 37 % 100 / 1000.0)
    if job % 31 == 30
      log('fail', job)
      raise 'this one fails'
    end
    log('done', job)
  end
end

if $PROGRAM_NAME == __FILE__
  count = 0
  put = lambda do |jobs|
    jobs.times do
      before = Time.now.to_f
      Run.perform_async(count)
      log('enqueue', count, before: before)
      count += 1
    end
  end
  put.call(BACKLOG)
  puts 'backlog'
  $stdout.flush
  $stdin.gets
  worker = ['sidekiq', '-r', File.expand_path(__FILE__), '-q', 'live', '-c', '2']
  worker = Process.spawn(*worker, out: File::NULL, err: File::NULL, pgroup: true)
  begin
    finish = Time.now + ARGV[0].to_f
    chance = Random.new(7)
    while Time.now < finish
      put.call([0, 1, 1, 2, 2, 3].sample(random: chance))
      sleep 0.1
      put.call(25) if chance.rand < 0.02
    end
    patience = Time.now + 120
    finished = -> { File.foreach(ENV['LIVE_LOG']).count { |line| line =~ /"(done|fail)"/ } }
    while finished.call < count
      raise "#{finished.call} of #{count} jobs are finished" if Time.now > patience

      sleep 0.05
    end
    puts 'drained'
    $stdout.flush
    $stdin.gets
  ensure
    Process.kill('KILL', -worker)
  end
end
