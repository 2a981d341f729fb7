import Addressing
import Synchronization
import Testing

@testable import LinuxIO

struct SystemTests {
  @Test(arguments: [
    (Errno.connectionRefused, "connection refused"), (.notPermitted, "operation not permitted"),
  ])
  func errorsReadLikeTheCLibrarys(error: Errno, text: String) {
    #expect("\(error)" == text)
  }

  @Test func resultsBecomeErrorsOrValues() throws {
    #expect(try checked(7 as Int) == 7)
    #expect(throws: Errno.connectionRefused) { try checked(-Errno.connectionRefused.rawValue) }
  }

  @Test func wakerWakesOnce() throws {
    let waker = try Waker()
    let epoll = try Epoll(capacity: 4)
    try epoll.add(waker.rawValue, [.readable, .edgeTriggered], token: 42)
    let idle = epoll.wait(milliseconds: 0)
    #expect(idle == 0)
    waker.wake()
    waker.wake()
    let woken = epoll.wait(milliseconds: 5000)
    #expect(woken == 1)
    let event = epoll.event(at: 0)
    #expect(event.token == 42)
    #expect(event.readiness.contains(.readable))
    waker.clear()
    let again = epoll.wait(milliseconds: 0)
    #expect(again == 0)
    waker.wake()
    let next = epoll.wait(milliseconds: 5000)
    #expect(next == 1)
  }

  /// An empty pipe would block, which is no error and not the end of the stream.
  @Test func emptyPipeWouldBlock() throws {
    let first = try Pipe(bytes: 65536)
    let second = try Pipe(bytes: 65536)
    let result = splice(from: first.readEnd.rawValue, to: second.writeEnd.rawValue, atMost: 10)
    guard case .wouldBlock = result else {
      Issue.record("\(result)")
      return
    }
  }

  @Test func threadsRunAndJoin() throws {
    let done = Semaphore()
    let thread = try Thread(name: "a name that is longer than fifteen bytes") { done.signal() }
    done.wait()
    thread.join()
  }

  @Test func threadStaysOnItsProcessor() throws {
    let wanted = try #require(System.processors.last)
    let seen = Mutex<[Int]>([])
    let thread = try Thread(name: "pinned", processor: wanted) {
      seen.withLock { $0 = System.processors }
    }
    thread.join()
    #expect(seen.withLock { $0 } == [wanted])
  }

  @Test func interfacesAreFoundByName() {
    #expect(System.hasInterface("lo"))
    #expect(!System.hasInterface("no-such-if"))
  }

  @Test func randomBytesDiffer() {
    #expect(System.randomBytes(16).count == 16)
    #expect(System.randomBytes(16) != System.randomBytes(16))
  }

  @Test func processorsAndDescriptors() {
    #expect(!System.processors.isEmpty)
    #expect(DescriptorLimit.raise() >= 256)
  }

  @Test func localhostResolves() throws {
    let addresses = NameResolution.addresses(of: try #require(HostName("localhost")))
    #expect(!addresses.isEmpty)
    #expect(addresses.allSatisfy { $0.isLoopback })
    #expect(NameResolution.addresses(of: try #require(HostName("no.such.name.invalid"))).isEmpty)
  }

  @Test(arguments: ["192.0.2.7:443", "[2001:db8::5]:65535", "[::ffff:192.0.2.1]:1", "0.0.0.0:0"])
  func addressesSurviveTheKernelsForm(text: String) throws {
    let address = try #require(SocketAddress(text))
    let copied = address.withKernelAddress { pointer, length in
      SocketAddress.filled { target, filledLength in
        UnsafeMutableRawPointer(target).copyMemory(from: pointer, byteCount: Int(length))
        filledLength.pointee = length
        return 0
      }
    }
    #expect(copied.address == address)
  }
}
