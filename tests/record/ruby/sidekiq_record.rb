# frozen_string_literal: true

# Records Sidekiq: sidekiq_record.rb REDIS_URL OUTDIR RUBY
#
# RUBY is the command that starts the worker processes. The database is flushed before each state; state `busy` goes on
# from `killed`, since a killed process stays in the set of processes for good.
require "json"
require "open3"
require "tmpdir"

URL, OUTDIR = ARGV
RUBY = File.expand_path(ARGV[2])
DIR = Dir.mktmpdir
ENV["REDIS_URL"] = URL
ENV["JOB_LOG"] = File.join(DIR, "jobs.log")
ENV["GATE"] = File.join(DIR, "gate")
require_relative "sidekiq_jobs"
require "sidekiq/api"

CHILDREN = []
# The workers end when this pipe does.
PIPE, LIFELINE = IO.pipe
at_exit do
  CHILDREN.each { |pid| Process.kill(:KILL, pid) rescue nil }
  FileUtils.rm_rf(DIR)
end

def redis(*command)
  Sidekiq.redis { |c| c.respond_to?(:_client) ? c.call(command) : c.call(*command) }
end

# Waits for a condition: a recording must never depend on how fast the machine is.
def wait_for(what, seconds = 90)
  last = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
  until yield
    raise "waited in vain: #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > last

    sleep 0.05
  end
end

# What the producer and the workers know of their jobs, without asking Redis.
class Ledger
  STATES = { "start" => "in_flight", "done" => "done", "retry" => "retrying", "dead" => "dead" }.freeze

  def initialize
    @added = {}
    @lost = []
    @from = File.exist?(ENV["JOB_LOG"]) ? File.readlines(ENV["JOB_LOG"]).size : 0
  end

  def add(queue, job, *args, at: nil)
    now = (Time.now.to_f * 1000).to_i
    setter = job.set(queue: queue)
    id = at ? setter.perform_at(at, queue, *args) : setter.perform_async(queue, *args)
    @added[id] = { queue: queue, at: now, due: at && (at * 1000).to_i }
  end

  def times(count, queue, job)
    count.times { add(queue, job) }
  end

  # Its worker was killed: Sidekiq forgets the job.
  def lose(queue)
    @lost += states.select { |id, state| @added[id][:queue] == queue && state == "in_flight" }.keys
  end

  def log
    File.exist?(ENV["JOB_LOG"]) ? File.readlines(ENV["JOB_LOG"], chomp: true)[@from..].map { |line| line.split("\t") } : []
  end

  def states
    states = @added.transform_values { |job| job[:due] ? "delayed" : "waiting" }
    log.each { |word, _, id| states[id] = STATES.fetch(word) }
    states.merge(@lost.to_h { |id| [id, "lost"] })
  end

  def count(queue, state)
    states.count { |id, s| s == state && @added[id][:queue] == queue }
  end

  def reaches(queue, state, count)
    wait_for("#{count} #{state} in #{queue}") { self.count(queue, state) == count }
  end

  def events(queue, *words)
    log.count { |word, q, _| words.include?(word) && q == queue }
  end

  def truths
    now = Time.now.to_f * 1000
    states = self.states
    @added.values.map { |job| job[:queue] }.uniq.to_h do |queue|
      mine = @added.select { |_, job| job[:queue] == queue }
      waiting = mine.select { |id, _| states[id] == "waiting" }.values
      [queue, {
        waiting: waiting.size, in_flight: count(queue, "in_flight"), delayed: count(queue, "delayed"),
        delayed_overdue: mine.count { |id, job| states[id] == "delayed" && job[:due] <= now },
        retrying: count(queue, "retrying"), dead: count(queue, "dead"),
        processed_total: events(queue, "done"), failed_total: events(queue, "retry", "dead"),
        oldest_enqueued_at_ms: waiting.map { |job| job[:at] }.min, paused: false, lost: count(queue, "lost")
      }]
    end
  end
end

Worker = Struct.new(:pid, :identity) do
  # The heartbeat alone tells Redis what a process works on, and what it has done so far.
  def shows(jobs)
    work = Sidekiq::VERSION.to_i < 7 ? "workers" : "work"
    wait_for("heartbeat") { redis("HLEN", "#{identity}:#{work}") == jobs }
  end
end

def work(queue, threads)
  before = redis("SMEMBERS", "processes")
  pid = Process.spawn(RUBY, File.join(__dir__, "sidekiq_worker.rb"), "-r", File.join(__dir__, "sidekiq_jobs.rb"),
                      "-q", queue, "-c", threads.to_s, "-e", "production", in: PIPE, out: File::NULL, chdir: "/")
  CHILDREN << pid
  wait_for("a process on #{queue}") { (redis("SMEMBERS", "processes") - before).any? }
  Worker.new(pid, (redis("SMEMBERS", "processes") - before).first)
end

def kill(worker, signal)
  Process.kill(signal, worker.pid)
  return if signal == :TSTP

  Process.wait(worker.pid)
  CHILDREN.delete(worker.pid)
end

def record(state, ledger, global, notes)
  queues = ledger.truths
  sums = %i[delayed retrying dead failed_total].to_h { |key| [key, queues.values.sum { |queue| queue[key] }] }
  sums[:processed_total] = queues.values.sum { |queue| queue[:processed_total] }
  truth = { library: "sidekiq", version: Sidekiq::VERSION, state: state, queues: queues, global: sums.merge(global),
            notes: notes + ["stat:processed counts failures too: processed_total + failed_total",
                            "oldest_enqueued_at_ms is the producer's clock just before the push: enqueued_at may be some ms later"] }
  out, status = Open3.capture2("python3", File.join(__dir__, "..", "dump.py"), URL, OUTDIR, stdin_data: JSON.generate(truth))
  raise "no dump" unless status.success?

  puts out
end

# Lets go of what is held, so that the processes end at once.
def finish(*workers)
  File.write(ENV["GATE"], "")
  workers.each { |worker| kill(worker, :TERM) }
  File.delete(ENV["GATE"])
  redis("FLUSHDB")
end

redis("FLUSHDB")
ledger = Ledger.new
ledger.times(2, "doomed", Hold)
doomed = work("doomed", 1)
ledger.reaches("doomed", "in_flight", 1)
doomed.shows(1)
kill(doomed, :KILL)
ledger.lose("doomed")
record("killed", ledger, { processes: 0, stale_processes: 1 },
       ["the only process was killed a moment ago: its hash and its work hash are still there, until their TTL of 60 s ends",
        "the job that it worked on is lost: Sidekiq takes a job off the list before it runs it"])

ledger.times(4, "emails", Quick)
# The processes look for due jobs once, soon after their start. This one tells when they have.
ledger.add("emails", Quick, at: Time.now.to_f + 0.1)
ledger.add("emails", FailForGood)
ledger.add("emails", FailOnce)
emails = work("emails", 2)
ledger.reaches("emails", "done", 5)
ledger.reaches("emails", "dead", 1)
ledger.reaches("emails", "retrying", 1)
ledger.times(2, "emails", Hold)
ledger.reaches("emails", "in_flight", 2)
ledger.times(6, "emails", Quick)
ledger.add("emails", Quick, "x" * 100_000)
2.times { ledger.add("emails", Quick, at: Time.now.to_f + 3600) }
ledger.add("emails", Quick, at: Time.now.to_f + 0.5)
ledger.times(4, "reports", Quick)
ledger.add("reports", Quick, at: Time.now.to_f + 3600)
ledger.times(2, "почта-é", Quick)
wait_for("overdue") { ledger.truths["emails"][:delayed_overdue] == 1 }
emails.shows(2)
wait_for("counters") { redis("GET", "stat:processed").to_i == 7 }
wait_for("the dead process's hash to run out") { redis("EXISTS", doomed.identity).to_i.zero? }
record("busy", ledger, { processes: 1, stale_processes: 1 },
       ["processes has a member whose hash is gone: a process that was killed",
        "schedule, retry, dead and stat:* are global; queues tells the parts of each queue",
        "delayed counts the overdue job too; emails: one waiting job carries 100 kB",
        "reports and почта-é never had a worker"])
finish(emails)

ledger = Ledger.new
ledger.times(3, "emails", Quick)
ledger.times(2, "emails", Hold)
ledger.times(2, "reports", Quick)
workers = [work("emails", 4), work("reports", 1)]
ledger.reaches("emails", "in_flight", 2)
ledger.reaches("reports", "done", 2)
workers.first.shows(2)
wait_for("counters") { redis("GET", "stat:processed").to_i == 5 }
record("drained", ledger, { processes: 2, stale_processes: 0 },
       ["nothing waits, so no list is left; emails: 2 of 4 threads work; the set of queues keeps the names"])
finish(*workers)

ledger = Ledger.new
ledger.add("emails", Hold)
worker = work("emails", 2)
ledger.reaches("emails", "in_flight", 1)
kill(worker, :TSTP)
wait_for("quiet") { redis("HGET", worker.identity, "quiet") == "true" }
worker.shows(1)
ledger.times(3, "emails", Quick)
record("quiet", ledger, { processes: 1, stale_processes: 0 },
       ["the process got TSTP, field quiet is true: it ends its job and takes no other, so the 3 waiting jobs stay",
        "Sidekiq without Pro has no pause"])
finish(worker)
