<?php
// Laravel's queue without the rest of Laravel:
//
//     laravel.php push QUEUE KIND [DELAY_SECONDS [BYTES]]
//     laravel.php work QUEUE
//
// REDIS_URL, RETRY_AFTER (seconds until a taken job may be taken again), JOB_LOG (what befalls the jobs is told in this
// file) and GATE (jobs of kind Hold run until this file is there) come from the environment.

use Illuminate\Container\Container;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Events\Dispatcher;
use Illuminate\Queue\Capsule\Manager;
use Illuminate\Queue\Worker;
use Illuminate\Queue\WorkerOptions;
use Illuminate\Redis\RedisManager;

foreach (['Bus', 'Container', 'Events', 'Queue', 'Redis'] as $part) {
    require_once "Illuminate/$part/autoload.php";
}

function tell($word, $job)
{
    file_put_contents(getenv('JOB_LOG'), "$word\t{$job->getQueue()}\t{$job->getJobId()}\n", FILE_APPEND);
}

class Quick
{
    public function fire($job, $data)
    {
        tell('start', $job);
        $job->delete();
        tell('done', $job);
    }
}

class Hold
{
    public function fire($job, $data)
    {
        tell('start', $job);
        while (! file_exists(getenv('GATE'))) {
            usleep(50000);
            clearstatcache();
        }
        $job->delete();
        tell('done', $job);
    }
}

class Retry
{
    public function fire($job, $data)
    {
        tell('start', $job);
        // What the worker does with a job that throws and has tries left.
        $job->release(3600);
        tell('retrying', $job);
    }
}

class Fail
{
    public function fire($job, $data)
    {
        tell('start', $job);
        tell('dead', $job);
        throw new Exception('failed on purpose');
    }
}

class Quiet implements ExceptionHandler
{
    public function report(Throwable $e)
    {
        if ($e->getMessage() !== 'failed on purpose') {
            fwrite(STDERR, $e."\n");
        }
    }

    public function shouldReport(Throwable $e)
    {
        return true;
    }

    public function render($request, Throwable $e)
    {
    }

    public function renderForConsole($output, Throwable $e)
    {
    }
}

$url = parse_url(getenv('REDIS_URL'));
$container = Container::getInstance();
$container->instance('redis', new RedisManager($container, 'phpredis', [
    // The prefix that a new Laravel application has.
    'options' => ['prefix' => 'laravel_database_'],
    'default' => ['host' => $url['host'], 'port' => $url['port'] ?? 6379, 'database' => (int) trim($url['path'] ?? '0', '/')],
]));
$container->instance('events', $events = new Dispatcher($container));
$container->instance('Illuminate\Contracts\Events\Dispatcher', $events);
$capsule = new Manager($container);
$capsule->addConnection([
    'driver' => 'redis', 'connection' => 'default', 'queue' => 'default', 'retry_after' => (int) getenv('RETRY_AFTER'),
]);
$queues = $capsule->getQueueManager();

[, $command, $queue, $kind, $delay, $bytes] = $argv + [null, '', '', '', 0, 0];
if ($command === 'push') {
    $data = ['for' => 'somebody@example.test', 'blob' => str_repeat('x', (int) $bytes)];
    $at = (int) (microtime(true) * 1000);
    $connection = $queues->connection();
    $id = $delay ? $connection->later((int) $delay, $kind, $data, $queue) : $connection->push($kind, $data, $queue);
    echo "$id $at\n";
} elseif ($command === 'work') {
    $worker = new Worker($queues, $events, new Quiet, fn () => false);
    $options = new WorkerOptions();
    $options->sleep = 0.1;
    $options->maxTries = 1;
    while (! file_exists(getenv('GATE'))) {
        $worker->runNextJob('default', $queue, $options);
        clearstatcache();
    }
}
