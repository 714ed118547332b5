// What charts are drawn on: an SVG for people who zoom, a PNG for tools that show nothing else.
// Both are written here, so that a server needs no graphics library.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trireme::loadgen {

struct Color {
  uint8_t red, green, blue;
};

struct Point {
  double x, y;  // y grows downwards
};

enum class Align { kLeft, kCenter, kRight };

// Sizes in units; text is 7 units high and 6 wide a character.
class Canvas {
 public:
  static constexpr double kCharWidth = 6, kCapHeight = 7;

  virtual ~Canvas() = default;
  virtual void Rect(Point corner, double width, double height, Color color) = 0;
  virtual void Line(const std::vector<Point>& points, double width, Color color) = 0;
  // The baseline begins, has its middle or ends at `at`. PNG shows '?' beyond ASCII.
  virtual void Text(Point at, std::string_view text, Align align, Color color) = 0;
  virtual std::string Finish() = 0;  // the file; the canvas is done
};

std::unique_ptr<Canvas> MakeSvgCanvas(int width, int height);
std::unique_ptr<Canvas> MakePngCanvas(int width, int height);  // two pixels a unit

}  // namespace trireme::loadgen
