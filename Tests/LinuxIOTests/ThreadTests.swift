import Glibc
import LinuxIO
import Synchronization
import Testing

/// Threads and the signals of their process.
struct ThreadTests {
  private static func blocked(_ signal: Int32) -> Bool {
    var set = sigset_t()
    pthread_sigmask(SIG_BLOCK, nil, &set)
    return sigismember(&set, signal) == 1
  }

  /// None is delivered to a thread; the one that makes it has the same as before.
  @Test func takesNoSignals() throws {
    let before = Self.blocked(SIGTERM)
    let isBlocked = Mutex(false)
    let thread = try Thread(name: "test") {
      isBlocked.withLock { $0 = Self.blocked(SIGTERM) && Self.blocked(SIGHUP) }
    }
    thread.join()
    #expect(isBlocked.withLock { $0 })
    #expect(Self.blocked(SIGTERM) == before)
  }
}
