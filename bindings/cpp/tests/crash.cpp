// As bindings/c/tests/crash.c, through corering.hpp: writes until it is killed, or checks a list of what was acknowledged.
//
//   crash write DIR sync|interval|none ROUND     prints "put ROUND N", "batch ROUND N" or "tx ROUND N" for each answer
//   crash check DIR                              exits with 0 if nothing is missing
#include <corering.hpp>

#include <cstdio>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <unistd.h>

namespace {

corering::open_options small() {
    corering::open_options options;
    options.shards = 2;
    options.pin_threads = false;
    options.memtable_bytes = 1 << 20;
    options.segment_bytes = 1 << 20;
    return options;
}

constexpr int parts_each = 3;

// The tag keeps a batch on one shard; the keys of a transaction lie on any.
std::string key_of(const std::string &way, const std::string &round, unsigned long n, int part) {
    if (way == "tx") {
        return way + "-" + round + "-" + std::to_string(n) + "-" + std::to_string(part);
    }
    return "{" + way + "-" + round + "-" + std::to_string(n) + "}" + std::to_string(part);
}

std::string value_of(const std::string &key) { return "the value of " + key + std::string(200, 'x'); }

void acknowledge(const std::string &way, const std::string &round, unsigned long n) {
    const std::string line = way + " " + round + " " + std::to_string(n) + "\n";
    if (write(STDOUT_FILENO, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
        std::exit(1);
    }
}

int write_until_killed(corering::db &db, const std::string &level, const std::string &round) {
    corering::write_options options;
    options.durability = level == "none"       ? corering::durability::none()
                         : level == "interval" ? corering::durability::interval(std::chrono::seconds(1))
                                               : corering::durability::sync();
    std::thread batches([&] {
        for (unsigned long n = 0;; n++) {
            auto batch = db.new_batch();
            for (int part = 0; part < parts_each; part++) {
                const auto key = key_of("batch", round, n, part);
                batch.put(key, value_of(key));
            }
            batch.commit(options);
            acknowledge("batch", round, n);
        }
    });
    std::thread transactions([&] {
        corering::transaction_options how;
        how.durability = options.durability;
        for (unsigned long n = 0;; n++) {
            db.transact(
                [&](corering::transaction &tx) {
                    for (int part = 0; part < parts_each; part++) {
                        const auto key = key_of("tx", round, n, part);
                        tx.put(key, value_of(key));
                    }
                },
                how);
            acknowledge("tx", round, n);
        }
    });
    for (unsigned long n = 0;; n++) {
        const auto key = key_of("put", round, n, 0);
        db.put(key, value_of(key), options);
        acknowledge("put", round, n);
    }
}

// What stands behind the last one that was acknowledged: whole or absent.
unsigned long count_torn(corering::db &db, const std::string &way, const std::string &round, unsigned long next) {
    unsigned long torn = 0;
    for (unsigned long n = next; n < next + 10; n++) {
        int there = 0;
        for (int part = 0; part < parts_each; part++) {
            there += db.get(key_of(way, round, n, part)) ? 1 : 0;
        }
        if (there != 0 && there != parts_each) {
            std::cerr << way << " " << round << " " << n << " is there in part\n";
            torn++;
        }
    }
    return torn;
}

int check_what_was_acknowledged(corering::db &db) {
    unsigned long checked = 0, missing = 0, torn = 0;
    std::map<std::pair<std::string, std::string>, unsigned long> next;
    std::string line;
    // A line without its end was cut by the kill.
    while (std::getline(std::cin, line) && !std::cin.eof()) {
        std::istringstream words(line);
        std::string way, round;
        unsigned long n = 0;
        words >> way >> round >> n;
        if (way != "put") {
            next[{way, round}] = n + 1;
        }
        for (int part = 0; part < (way == "put" ? 1 : parts_each); part++) {
            const auto key = key_of(way, round, n, part);
            const auto found = db.get(key);
            if (!found || found->view() != value_of(key)) {
                std::cerr << key << " was acknowledged and is " << (found ? "wrong" : "missing") << "\n";
                missing++;
            }
        }
        checked++;
    }
    bool both[2] = {false, false};
    for (const auto &[which, from] : next) {
        torn += count_torn(db, which.first, which.second, from);
        both[which.first == "tx"] = true;
    }
    db.close();
    if (!both[0] || !both[1]) {
        std::cerr << "no batch or no transaction was ever acknowledged\n";
        return 1;
    }
    std::cout << checked << " acknowledged, " << missing << " missing\n";
    return missing == 0 && torn == 0 ? 0 : 1;
}

} // namespace

int main(int argc, char **argv) {
    const std::string mode = argc > 1 ? argv[1] : "";
    try {
        if (mode == "write" && argc == 5) {
            auto db = corering::db::open(argv[2], small());
            return write_until_killed(db, argv[3], argv[4]);
        }
        if (mode == "check" && argc == 3) {
            auto db = corering::db::open(argv[2], small());
            return check_what_was_acknowledged(db);
        }
    } catch (const corering::error &error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
    std::cerr << "usage: crash write DIR sync|interval|none ROUND | crash check DIR\n";
    return 2;
}
