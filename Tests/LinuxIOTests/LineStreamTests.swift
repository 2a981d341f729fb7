import Glibc
import Testing

@testable import LinuxIO

/// Lines and the descriptors that belong to them, whatever the other side does.
struct LineStreamTests {
  private static let maximumBytes = 100
  private let soon = Instant.now() + .seconds(10)

  /// One end; the number of the other is put into `other`, and the test has to close it.
  private func pair(_ other: inout Int32) -> LineStream {
    var ends: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    #expect(socketpair(AF_UNIX, kind, 0, &ends) == 0)
    other = ends[1]
    return LineStream(Descriptor(owning: ends[0]), maximumBytes: Self.maximumBytes)
  }

  private func say(_ text: String, to descriptor: Int32) {
    let bytes = Array(text.utf8)
    #expect(write(descriptor, bytes, bytes.count) == bytes.count)
  }

  private func text(_ stream: inout LineStream) throws -> String? {
    guard let line = try stream.receive(until: soon) else { return nil }
    return String(decoding: line.bytes, as: UTF8.self)
  }

  /// How many descriptors come with the next line.
  private func count(_ stream: inout LineStream) throws -> Int? {
    guard let line = try stream.receive(until: soon) else { return nil }
    return line.descriptors.count
  }

  private func failure(_ stream: inout LineStream, until deadline: Instant) -> LineStream.Failure? {
    do {
      _ = try stream.receive(until: deadline)
      return nil
    } catch {
      return error
    }
  }

  @Test func linesArriveWhole() throws {
    var other: Int32 = -1
    var stream = pair(&other)
    say("one\n\nthree and mo", to: other)
    let first = try text(&stream)
    let second = try text(&stream)
    say("re\n", to: other)
    close(other)
    let third = try text(&stream)
    let end = try text(&stream)
    #expect([first, second, third, end] == ["one", "", "three and more", nil])
  }

  @Test func descriptorsComeWithTheirLine() throws {
    var other: Int32 = -1
    var stream = pair(&other)
    let far = LineStream(Descriptor(owning: other), maximumBytes: Self.maximumBytes)
    let file = Descriptor(owning: open("/dev/null", O_RDONLY))
    try far.send(Array("without".utf8), until: soon)
    #expect(try count(&stream) == 0)
    try far.send(Array("with".utf8), [file.rawValue, file.rawValue], until: soon)
    guard var line = try stream.receive(until: soon) else {
      Issue.record("nothing came")
      return
    }
    let taken = line.take()
    #expect(taken.count == 2)
    #expect(taken.allSatisfy { fcntl($0, F_GETFD) == FD_CLOEXEC })
    for descriptor in taken { #expect(close(descriptor) == 0) }
  }

  @Test func descriptorsThatNobodyTakesAreClosed() throws {
    var other: Int32 = -1
    var stream = pair(&other)
    let far = LineStream(Descriptor(owning: other), maximumBytes: Self.maximumBytes)
    var ends: [Int32] = [-1, -1]
    #expect(pipe(&ends) == 0)
    try far.send(Array("look".utf8), [ends[1]], until: soon)
    close(ends[1])
    _ = try stream.receive(until: soon)
    // The end of the pipe is seen when the last copy of its other end is closed.
    var byte: UInt8 = 0
    #expect(read(ends[0], &byte, 1) == 0)
    close(ends[0])
  }

  @Test func lineThatIsTooLong() {
    for text in [String(repeating: "x", count: 101), String(repeating: "x", count: 101) + "\n"] {
      var other: Int32 = -1
      var stream = pair(&other)
      say(text, to: other)
      #expect(failure(&stream, until: soon) == .lineTooLong)
      close(other)
    }
  }

  @Test func longestLine() throws {
    var other: Int32 = -1
    var stream = pair(&other)
    say(String(repeating: "x", count: 100) + "\n", to: other)
    let line = try text(&stream)
    #expect(line?.utf8.count == 100)
    close(other)
  }

  @Test func tooManyDescriptors() throws {
    var other: Int32 = -1
    var stream = pair(&other)
    let far = LineStream(Descriptor(owning: other), maximumBytes: Self.maximumBytes)
    let file = Descriptor(owning: open("/dev/null", O_RDONLY))
    let many = [Int32](repeating: file.rawValue, count: LineStream.maximumDescriptors)
    try far.send(Array("as many as may be".utf8), many, until: soon)
    let line = try text(&stream)
    #expect(line == "as many as may be")
    // Together with one that came before.
    try far.send(Array("more".utf8), many, until: soon)
    #expect(try count(&stream) == many.count)
  }

  @Test func endInALine() {
    var other: Int32 = -1
    var stream = pair(&other)
    say("half", to: other)
    close(other)
    #expect(failure(&stream, until: soon) == .ended)
  }

  @Test func nothingComes() {
    var other: Int32 = -1
    var stream = pair(&other)
    #expect(failure(&stream, until: .now() + Timeout(milliseconds: 10)) == .timedOut)
    say("half", to: other)
    #expect(failure(&stream, until: .now() + Timeout(milliseconds: 10)) == .timedOut)
    close(other)
  }

  @Test func nobodyTakesIt() {
    var other: Int32 = -1
    let stream = pair(&other)
    let line = [UInt8](repeating: 0x78, count: 1 << 22)
    do {
      try stream.send(line, until: .now() + Timeout(milliseconds: 10))
      Issue.record("taken")
    } catch {
      #expect(error == .timedOut)
    }
    close(other)
    do {
      try stream.send(line, until: soon)
      Issue.record("taken")
    } catch {
      #expect(error == .ended)
    }
  }
}
