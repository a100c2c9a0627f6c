/**
 * The program of the launcher process (see `launcher.ts`), for perl, which is part of every Debian. It is small, so that it forks
 * fast. Arguments: the uid that pipes belong to, or ''; `1` where what it starts needs the ordinary out-of-memory score, or '';
 * the folder in which it makes a cgroup for each child, or ''; how many processes and threads each of these may hold.
 *
 * Its stdin takes
 *
 *     prepare ID\n               forks a child that waits for its program
 *     release FD …\n             descriptors of `ready` that were taken over
 *
 * its stdout says
 *
 *     ready ID PID REQUEST OUT ERR IN GROUP\n    descriptors of our ends of the child's pipes; its cgroup, or nothing
 *     started ID\n                               it runs its program, or was killed before
 *     failed ID STEP REASON\n                    it will not
 *     exited ID CODE SIGNAL\n                    after `started`
 *
 * and a child takes on its REQUEST pipe
 *
 *     UID GID STDIN ARGUMENTS BYTES\n    UID and GID: `-` to stay who we are; STDIN: 1 for the pipe, 0 for /dev/null; then
 *                                        BYTES bytes, each string ended by NUL: folder, ARGUMENTS arguments, NAME=value …
 *
 * Exits are seen by pidfds: a SIGCHLD handler of perl's may run only after the `select` that it should have ended. The number of
 * pidfd_open is the same on every architecture (Linux 5.3).
 */
export const LAUNCHER_PROGRAM = String.raw`
use strict;
use POSIX ();
$0 = 'vivarium-launcher';
my ($pipe_owner, $spared, $groups, $max_processes) = @ARGV;
my ($input, $group_count, %starting, %running, %held) = ('', 0);
open(my $null, '<', '/dev/null') or die "/dev/null: $!\n";

sub report {
  my $line = join(' ', @_) . "\n";
  syswrite(STDOUT, $line) == length $line or finish();
}

# A pipe can be opened anew, as /dev/stdout is, only by the user who made it, and by root.
sub make_pipe {
  $> = $pipe_owner if $pipe_owner ne '';
  my $made = pipe(my $read, my $write);
  $> = $< if $pipe_owner ne '';
  return $made ? ($read, $write) : ();
}

# Those of an agent before us may still be there.
sub make_group {
  return '' if $groups eq '';
  for (;;) {
    my $group = "$groups/exec-$$-" . $group_count++;
    if (mkdir $group) {
      # Where the kernel can.
      write_text("$group/pids.max", $max_processes);
      return $group;
    }
    return undef if $! != POSIX::EEXIST();
  }
}

sub write_text {
  my ($path, $text) = @_;
  open(my $file, '>', $path) or return;
  return syswrite($file, $text);
}

# Sets the environment, and takes apart the rest: the folder and the arguments.
sub unpack_strings {
  my ($count, $bytes) = @_;
  my ($folder, @environment) = split(/\0/, $bytes, -1);
  pop @environment;
  my @arguments = splice(@environment, 0, $count);
  %ENV = map { split(/=/, $_, 2) } @environment;
  return ($folder, @arguments);
}

# What of a child's life needs no program. Returns, with $! set, the step that failed.
sub settle {
  my ($group, $out, $err) = @_;
  $group eq '' or write_text("$group/cgroup.procs", '0') or return 'group';
  !$spared or write_text('/proc/self/oom_score_adj', '0') or return 'score';
  POSIX::setsid();
  my @streams = ($null, $out, $err);
  for (0 .. 2) { defined POSIX::dup2(fileno $streams[$_], $_) or return 'streams' }
  # Memory that is shared with the launcher is copied when it is first written: now rather than when a program waits.
  unpack_strings(1, join("\0", '/', '/bin/true', map({ "NAME$_=" . '.' x 80 } 1 .. 30), ''));
  return;
}

# Waits for its program and becomes it. Returns, with $! set, the step that failed.
sub become {
  my ($request, $in) = @_;
  my ($bytes, $head) = ('', -1);
  while ($head < 0) {
    sysread($request, $bytes, 65536, length $bytes) or return 'request';
    $head = index($bytes, "\n");
  }
  my ($uid, $gid, $with_stdin, $count, $length) = split(/ /, substr($bytes, 0, $head + 1, ''));
  while (length $bytes < $length) { sysread($request, $bytes, 65536, length $bytes) or return 'request' }
  my ($folder, @arguments) = unpack_strings($count, $bytes);
  if ($with_stdin) { defined POSIX::dup2(fileno $in, 0) or return 'streams' }
  chdir $folder or return 'folder';
  if ($uid ne '-') {
    $) = "$gid $gid";
    $) eq "$gid $gid" && POSIX::setgid($gid) && POSIX::setuid($uid) or return 'user';
  }
  exec { $arguments[0] } @arguments;
  return 'program';
}

sub prepare {
  my ($id) = @_;
  my ($their_request, $request) = make_pipe();
  my ($out, $their_out) = make_pipe();
  my ($err, $their_err) = make_pipe();
  my ($their_in, $in) = make_pipe();
  my ($status, $their_status) = make_pipe();
  my $group = make_group();
  my $pid = $their_request && $out && $err && $in && $status && defined $group ? fork : undef;
  return report('failed', $id, 'process', $!) unless defined $pid;
  if ($pid == 0) {
    # Or somebody would wait for the end of what only we still hold open.
    (%held, %starting) = ();
    close $_ for $request, $out, $err, $in, $status;
    my $step = settle($group, $their_out, $their_err) || become($their_request, $their_in);
    syswrite($their_status, "$step $!");
    POSIX::_exit(127);
  }
  $starting{fileno $status} = { id => $id, pid => $pid, group => $group, status => $status };
  my @ends = ($request, $out, $err, $in);
  # What is opened anew for writing must have a reader: that of a pipe is held with it.
  @held{map { fileno $_ } @ends} = ([$request, $their_request], $out, $err, [$in, $their_in]);
  report('ready', $id, $pid, map({ fileno $_ } @ends), $group);
}

# A child's status pipe was closed, by exec or by its end.
sub started {
  my ($child) = @_;
  if (sysread($child->{status}, my $failure, 4096)) {
    waitpid($child->{pid}, 0);
    rmdir $child->{group} if $child->{group} ne '';
    return report('failed', $child->{id}, $failure);
  }
  my $pidfd = syscall(434, $child->{pid}, 0);
  die "pidfd_open: $!\n" if $pidfd < 0;
  $running{$pidfd} = $child;
  # The agent is woken once for one that ends at once.
  vec(my $ended, $pidfd, 1) = 1;
  return exited($pidfd, "started $child->{id}\nexited") if select($ended, undef, undef, 0.01) > 0;
  report('started', $child->{id});
}

sub exited {
  my ($pidfd, $event) = @_;
  my $child = delete $running{$pidfd};
  POSIX::close($pidfd);
  waitpid($child->{pid}, 0);
  report($event, $child->{id}, $? >> 8, $? & 127);
}

sub take_input {
  sysread(STDIN, $input, 65536, length $input) or finish();
  while ((my $end = index($input, "\n")) >= 0) {
    my ($command, @words) = split(/ /, substr($input, 0, $end));
    substr($input, 0, $end + 1) = '';
    $command eq 'prepare' ? prepare(@words) : delete @held{@words};
  }
}

# The agent has gone: so do the children that have no program yet.
sub finish {
  for (values %starting) {
    kill('KILL', $_->{pid});
    waitpid($_->{pid}, 0);
    rmdir $_->{group} if $_->{group} ne '';
  }
  exit;
}

for (;;) {
  my $ready = '';
  vec($ready, $_, 1) = 1 for 0, keys %starting, keys %running;
  next if select($ready, undef, undef, undef) < 0;
  # All that is ready before any is handled: handling opens and closes descriptors, whose numbers are used again.
  my @started = map { delete $starting{$_} } grep { vec($ready, $_, 1) } keys %starting;
  my @exited = grep { vec($ready, $_, 1) } keys %running;
  started($_) for @started;
  exited($_, 'exited') for @exited;
  take_input() if vec($ready, 0, 1);
}
`
