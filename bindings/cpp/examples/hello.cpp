#include <corering.hpp>
#include <iostream>

int main() {
    auto db = corering::db::open("hello-data");
    db.put("greeting", "hello from C++"); // durable when it returns
    std::cout << db.get("greeting")->view() << "\n";
    for (const corering::entry &e : db.scan()) std::cout << e.key << " = " << e.value << "\n";
}
