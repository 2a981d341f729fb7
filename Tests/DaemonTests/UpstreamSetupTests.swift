import Addressing
import Configuration
import DataPlane
import Glibc
import LinuxIO
import Testing

@testable import Daemon

/// Where an upstream is looked for, and what is said if it is not there.
final class UpstreamSetupTests {
  private let path = "/tmp/sluice-tests-\(getpid())-\(UInt64.random(in: 0 ... .max)).sock"

  deinit { unlink(path) }

  @Test(arguments: [
    ("embedded", [], []), ("direct", [], []),
    ("socks5://192.0.2.1", ["192.0.2.1:1080"], ["192.0.2.1"]),
    ("socks5://[::1]:1", ["[::1]:1"], ["::1"]), ("http://[::1]", ["[::1]:8080"], ["::1"]),
    ("socks5:///run/x", ["/run/x"], []),
  ])
  func places(_ url: String, _ places: [String], _ exemptions: [String]) throws {
    let found = try UpstreamSetup.places(UpstreamURL(url))
    #expect(found.map(\.description) == places)
    #expect(found.compactMap(\.exemption?.description) == exemptions)
  }

  private func failure(_ place: Upstream.Place, _ url: UpstreamURL) -> CommandFailure? {
    do {
      _ = try UpstreamSetup.reach(
        [place], UpstreamChain(url), mark: nil, timeout: Timeout(milliseconds: 100))
      return nil
    } catch {
      return error
    }
  }

  @Test func saysThatNobodyListens() throws {
    let url = try UpstreamURL("socks5://\(path)")
    let place = try #require(try UpstreamSetup.places(url).first)
    let socketPath = try #require(SocketPath(Array(path.utf8)))
    let expected = "no SOCKS5 server listens on \(path): start it, or correct the path"
    let missing = try #require(failure(place, url))
    #expect(missing.message == expected)
    #expect(missing.status == .unavailable)
    do { _ = try LocalSocket.listen(at: socketPath) }
    #expect(failure(place, url)?.message == expected)
  }

  @Test func saysThatNobodyAnswers() throws {
    let url = try UpstreamURL("socks5://\(path)")
    let place = try #require(try UpstreamSetup.places(url).first)
    let listener = try LocalSocket.listen(at: try #require(SocketPath(Array(path.utf8))))
    #expect(
      failure(place, url)?.message
        == "socks5://\(path) accepts connections but does not answer; is it a SOCKS5 server?")
    withExtendedLifetime(listener) {}
  }

  /// Only what is a Unix socket's own has words of its own.
  @Test func saysWhatStandsInTheWay() throws {
    let path = try #require(SocketPath(Array(path.utf8)))
    let place = Upstream.Place.socket(path)
    let url = UpstreamURL.http(server: .socket(path), credentials: nil)
    #expect(place.obstacle(.accessDenied, url)?.isForbidden == true)
    #expect(place.obstacle(.accessDenied, url)?.problem == "may not connect to \(path)")
    #expect(place.obstacle(.connectionRefused, url)?.isForbidden == false)
    #expect(place.obstacle(.connectionRefused, url)?.problem == "no HTTP proxy listens on \(path)")
    #expect(place.obstacle(.timedOut, url) == nil)
    let address = Upstream.Place.address(SocketAddress(.v4(.loopback), 1080))
    #expect(address.obstacle(.connectionRefused, url) == nil)
    #expect(address.name(in: .embedded) == "embedded at 127.0.0.1:1080")
  }
}
