import Addressing
import Testing

struct SocketPathTests {
  @Test(arguments: ["/", "/run/tor/socks", "/a b", "//", "/ü"])
  func path(_ text: String) throws {
    let path = try #require(SocketPath(Array(text.utf8)))
    #expect(path.bytes == Array(text.utf8))
    #expect(path.description == text)
  }

  @Test(arguments: ["", "run/socks", "@abstract", " /run", "/run\0", "\0/run"])
  func none(_ text: String) {
    #expect(SocketPath(Array(text.utf8)) == nil)
  }

  @Test func hasRoomInTheAddress() {
    let longest = [UInt8](repeating: UInt8(ascii: "/"), count: 107)
    #expect(SocketPath(longest) != nil)
    #expect(SocketPath(longest + longest[..<1]) == nil)
  }

  @Test func mayBeAnyBytes() {
    let bytes = [UInt8(ascii: "/")] + (UInt8(200)...255)
    #expect(SocketPath(bytes)?.bytes == bytes)
  }
}
