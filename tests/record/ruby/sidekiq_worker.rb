# frozen_string_literal: true

# A Sidekiq process, with the arguments of the command `sidekiq`.
require "sidekiq/cli"

# Standard input is a pipe that ends when the parent does, however that ended: never outlive it.
Thread.new do
  $stdin.read
  exit!(1)
end

cli = Sidekiq::CLI.instance
cli.parse(ARGV)
cli.run
