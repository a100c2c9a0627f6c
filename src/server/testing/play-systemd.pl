# Plays systemd for a test: perl play-systemd.pl NOTIFY_SOCKET WATCHDOG_USEC COMMAND...
# Holds a listening socket, and starts COMMAND with it at each line "start" of its input. Says, a line each: "listening PORT",
# "started PID", "told STATE" of each datagram, its lines joined by ";", and "ended PID STATUS".
use strict;
use warnings;
use POSIX qw(:sys_wait_h dup2);
use Socket;
use IO::Select;

my ($path, $usec, @command) = @ARGV;
$| = 1;
my ($notify, $listener);
socket($notify, PF_UNIX, SOCK_DGRAM, 0) && bind($notify, sockaddr_un($path)) or die "notify: $!";
socket($listener, PF_INET, SOCK_STREAM, 0) && bind($listener, sockaddr_in(0, INADDR_LOOPBACK)) && listen($listener, 64)
    or die "listen: $!";
printf "listening %d\n", (unpack_sockaddr_in(getsockname($listener)))[0];

my $select = IO::Select->new($notify, \*STDIN);
my %running;
while (1) {
    for my $ready ($select->can_read(0.05)) {
        if ($ready == $notify) {
            recv($notify, my $state, 4096, 0);
            print "told ", join(';', split /\n/, $state), "\n";
        } else {
            my $line = <STDIN>;
            defined $line or kill('KILL', keys %running), exit;
            my $pid = fork();
            if ($pid == 0) {
                dup2(fileno($listener), 3); # the first that sd_listen_fds(3) knows, open for the command
                @ENV{qw(LISTEN_PID LISTEN_FDS NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID)} = ($$, 1, $path, $usec, $$);
                exec @command or die "exec: $!";
            }
            $running{$pid} = 1;
            print "started $pid\n";
        }
    }
    while ((my $pid = waitpid(-1, WNOHANG)) > 0) {
        delete $running{$pid};
        print "ended $pid $?\n";
    }
}
