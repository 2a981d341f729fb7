// Fetches a page by HTTP and prints what it holds: a program that no library can be slipped under.
//
//     fetch HOST PORT PATH
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
  char buffer[65536];
  int stream = -1;
  if (count != 4 || getaddrinfo(words[1], words[2], &hints, &found) != 0) return 2;
  for (; found && stream < 0; found = found->ai_next) {
    stream = socket(found->ai_family, found->ai_socktype, 0);
    if (connect(stream, found->ai_addr, found->ai_addrlen) == 0) break;
    close(stream);
    stream = -1;
  }
  if (stream < 0) return 3;
  dprintf(stream, "GET %s HTTP/1.0\r\n\r\n", words[3]);
  FILE *answer = fdopen(stream, "r");
  while (fgets(buffer, sizeof buffer, answer) && strcmp(buffer, "\r\n") != 0) {}
  for (size_t length; (length = fread(buffer, 1, sizeof buffer, answer)) > 0;)
    if (fwrite(buffer, 1, length, stdout) != length) return 4;
  return ferror(answer) || fflush(stdout) ? 5 : 0;
}
