import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { TerminalSize } from '../../src/link/protocol.ts'
import { log, messageOf } from '../log.ts'
import { terminalOf } from './processes.ts'

/** `TIOCSPTLCK`, `TIOCGPTN`, `TIOCSWINSZ`, `TIOCSCTTY` (include/uapi/asm-generic/ioctls.h, the same on x86-64 and arm64). */
const [UNLOCK, NUMBER, SET_SIZE, CONTROL] = [0x40045431, 0x80045430, 0x5414, 0x540e]

/**
 * Runs a command in a pseudo terminal, of which the process becomes the leader: the pid, the exit code and the signal are the
 * command's own. The terminal's other end is held by a process apart, no child of the command, that copies what is typed (stdin) and
 * what is shown (stdout), never blocks in one direction for the other, and hangs up when stdin ends. It writes no more than
 * a pipe that select(2) calls writable takes at once (PIPE_BUF), so that it can be interrupted while nobody reads.
 */
const HELPER = `
use strict;
use POSIX ();
my ($rows, $columns, @command) = @ARGV;

sub copy {
  my ($terminal) = @_;
  my ($typed, $shown, $fd) = ('', '', fileno $terminal);
  for (;;) {
    my ($readable, $writable) = ('', '');
    vec($readable, 0, 1) = $typed eq '';
    vec($readable, $fd, 1) = $shown eq '';
    vec($writable, 1, 1) = $shown ne '';
    vec($writable, $fd, 1) = $typed ne '';
    select($readable, $writable, undef, undef) > 0 or next;
    if (vec($readable, 0, 1)) { sysread(STDIN, $typed, 4096) or last }
    if (vec($readable, $fd, 1)) { sysread($terminal, $shown, 4096) or again() or return }
    # A terminal that nobody reads any more may still have something to show.
    if (vec($writable, $fd, 1)) { take($terminal, \\$typed) or $typed = '' }
    if (vec($writable, 1, 1)) { take(*STDOUT, \\$shown) or return }
  }
  # What was shown before the end still counts, if it is not endless and somebody takes it.
  for (1 .. 1024) {
    if ($shown eq '') { sysread($terminal, $shown, 4096) or return }
    vec(my $writable = '', 1, 1) = 1;
    select(undef, $writable, undef, 1) > 0 && take(*STDOUT, \\$shown) or return;
  }
}

sub take {
  my ($to, $bytes) = @_;
  my $count = syswrite($to, $$bytes);
  substr($$bytes, 0, $count, '') if defined $count;
  return defined $count || again();
}

sub again { return $! == POSIX::EAGAIN() }

sysopen(my $terminal, '/dev/ptmx', POSIX::O_RDWR() | POSIX::O_NONBLOCK()) or die "/dev/ptmx: $!\\n";
my ($unlock, $number) = (pack('i', 0), pack('i', 0));
ioctl($terminal, ${UNLOCK}, $unlock) && ioctl($terminal, ${NUMBER}, $number) or die "terminal: $!\\n";
POSIX::setsid();
open(my $own, '+<', '/dev/pts/' . unpack('i', $number)) or die "terminal: $!\\n";
my $size = pack('S4', $rows, $columns, 0, 0);
ioctl($own, ${SET_SIZE}, $size) or die "terminal: $!\\n";

my $parent = fork() // die "fork: $!\\n";
if ($parent == 0) {
  POSIX::setsid();
  (fork() // 1) and POSIX::_exit(0);
  $0 = 'vivarium-terminal';
  close($own);
  close(STDERR);
  chdir('/');
  $SIG{$_} = 'IGNORE' for qw(HUP INT TERM PIPE);
  copy($terminal);
  POSIX::_exit(0);
}
waitpid($parent, 0);
ioctl($own, ${CONTROL}, 0);
POSIX::dup2(fileno($own), $_) for 0 .. 2;
exec { $command[0] } @command;
print STDERR "cannot start $command[0]: $!\\n";
POSIX::_exit(127);
`

/** How long a process that has just started may take to make its terminal. */
const START_ROUNDS = 400
const ROUND_MS = 25

/** What to start in place of `argv`, so that it runs in a terminal of its own. Perl is part of every Debian. */
export function inTerminal(argv: string[], { rows, cols }: TerminalSize): [string, ...string[]] {
  return ['perl', '-e', HELPER, '--', String(rows), String(cols), ...argv]
}

/** Gives the terminal of the process `pid` another size, of which its programs are told; does nothing where there is none (any more). */
export async function resizeTerminal(pid: number, { rows, cols }: TerminalSize): Promise<void> {
  let terminal = terminalOf(pid)
  for (let round = 0; round < START_ROUNDS && terminal === null; round += 1) {
    await sleep(ROUND_MS)
    terminal = terminalOf(pid)
  }
  if (typeof terminal !== 'string') return
  await promisify(execFile)('stty', ['-F', terminal, 'rows', String(rows), 'cols', String(cols)]).catch(
    // Most likely the process has ended meanwhile; nothing depends on it.
    (error: unknown) => log(`resize: ${messageOf(error)}`),
  )
}
